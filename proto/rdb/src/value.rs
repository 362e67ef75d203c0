//! Whole values, for those who have the memory: comparing, printing, restoring by command.

use crate::{Event, Item, LogicalType, ModuleId, ModuleItem, Part, StreamId, StreamItem};

/// One key with its whole value.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub database: u32,
    pub key: Vec<u8>,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    pub value: Value,
}

/// A value as a client sees it. Sets, sorted sets and hashes are in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Zset(Vec<(Vec<u8>, f64)>),
    Hash(Vec<HashField>),
    Stream(Box<Stream>),
    /// By index; what is not there is not set.
    Array(Vec<(u64, Vec<u8>)>),
    Module(ModuleId, Vec<ModulePart>),
}

/// One field of a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashField {
    pub field: Vec<u8>,
    pub value: Vec<u8>,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// A stream with its groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    pub entries: Vec<StreamEntry>,
    pub last_id: StreamId,
    pub groups: Vec<StreamGroup>,
}

/// One entry of a stream: fields may repeat, and keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: StreamId,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamGroup {
    pub name: Vec<u8>,
    pub last_id: StreamId,
    /// Entry, time of its last delivery in milliseconds since 1970, number of deliveries.
    pub pending: Vec<(StreamId, i64, u64)>,
    /// Consumers with the pending entries that they hold.
    pub consumers: Vec<(Vec<u8>, Vec<StreamId>)>,
}

/// One opcode of a module's own encoding.
#[derive(Debug, Clone, PartialEq)]
pub enum ModulePart {
    Number(ModuleItem),
    Text(Vec<u8>),
}

/// Puts events of the depth [`crate::Depth::Values`] together into [`Record`]s. Memory: one record.
#[derive(Debug, Default)]
pub struct Collector {
    record: Option<Record>,
    text: Vec<u8>,
    first: Option<Vec<u8>>,
    index: u64,
}

impl Collector {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event; gives the record that it completes. Keys that servers drop are left out.
    pub fn event(&mut self, event: &Event<'_>) -> Option<Record> {
        match event {
            Event::Key(key) => {
                let value = match key.value_type.logical() {
                    LogicalType::String => Value::String(Vec::new()),
                    LogicalType::List => Value::List(Vec::new()),
                    LogicalType::Set => Value::Set(Vec::new()),
                    LogicalType::Zset => Value::Zset(Vec::new()),
                    LogicalType::Hash => Value::Hash(Vec::new()),
                    LogicalType::Stream => Value::Stream(Box::default()),
                    LogicalType::Array => Value::Array(Vec::new()),
                    LogicalType::Module => Value::Module(key.module.unwrap_or(ModuleId(0)), Vec::new()),
                };
                let (database, expires_at) = (key.database, key.expires_at);
                self.text.clear();
                self.record = Some(Record { database, key: key.key.to_vec(), expires_at, value });
                None
            }
            Event::Item(item) => {
                self.item(item);
                None
            }
            Event::KeyEnd(end) => self.record.take().filter(|_| !end.empty),
            _ => None,
        }
    }

    fn item(&mut self, item: &Item<'_>) {
        // What modules keep beside the keys belongs to no record.
        let Some(Record { value, .. }) = &mut self.record else { return };
        match (item, value) {
            (Item::Text { part, bytes, last }, value) => {
                self.text.extend_from_slice(bytes);
                if *last {
                    let text = std::mem::take(&mut self.text);
                    put_text(value, *part, text, &mut self.first, self.index);
                }
            }
            (Item::Score(score), Value::Zset(members)) => {
                if let Some((_, last)) = members.last_mut() {
                    *last = *score;
                }
            }
            (Item::FieldExpiry(time), Value::Hash(fields)) => {
                if let Some(last) = fields.last_mut() {
                    last.expires_at = Some(*time);
                }
            }
            (Item::ArrayIndex(index), _) => self.index = *index,
            (Item::Module(item), Value::Module(_, parts)) => parts.push(ModulePart::Number(*item)),
            (Item::Stream(item), Value::Stream(stream)) => put_stream_item(stream, item),
            _ => {}
        }
    }
}

fn put_text(value: &mut Value, part: Part, text: Vec<u8>, first: &mut Option<Vec<u8>>, index: u64) {
    match (part, value) {
        (Part::String, Value::String(all)) => *all = text,
        (Part::Element, Value::List(elements)) => elements.push(text),
        (Part::Member, Value::Set(members)) => members.push(text),
        (Part::Member, Value::Zset(members)) => members.push((text, 0.0)),
        (Part::Field | Part::EntryField, _) => *first = Some(text),
        (Part::FieldValue, Value::Hash(fields)) => {
            let field = first.take().unwrap_or_default();
            fields.push(HashField { field, value: text, expires_at: None });
        }
        (Part::EntryValue, Value::Stream(stream)) => {
            if let Some(entry) = stream.entries.last_mut() {
                entry.fields.push((first.take().unwrap_or_default(), text));
            }
        }
        (Part::ArrayElement, Value::Array(elements)) => elements.push((index, text)),
        (Part::Module, Value::Module(_, parts)) => parts.push(ModulePart::Text(text)),
        _ => {}
    }
}

fn put_stream_item(stream: &mut Stream, item: &StreamItem<'_>) {
    match item {
        StreamItem::Entry(id) => stream.entries.push(StreamEntry { id: *id, fields: Vec::new() }),
        StreamItem::Tail { last_id, .. } => stream.last_id = *last_id,
        StreamItem::Group { name, last_id, .. } => stream.groups.push(StreamGroup {
            name: name.to_vec(),
            last_id: *last_id,
            pending: Vec::new(),
            consumers: Vec::new(),
        }),
        StreamItem::Pending { id, delivered_at, deliveries } => {
            if let Some(group) = stream.groups.last_mut() {
                group.pending.push((*id, *delivered_at, *deliveries));
            }
        }
        StreamItem::Consumer { name, .. } => {
            if let Some(group) = stream.groups.last_mut() {
                group.consumers.push((name.to_vec(), Vec::new()));
            }
        }
        StreamItem::ConsumerPending(id) => {
            if let Some((_, held)) = stream.groups.last_mut().and_then(|group| group.consumers.last_mut()) {
                held.push(*id);
            }
        }
        StreamItem::Nacked(_)
        | StreamItem::Idempotence { .. }
        | StreamItem::Producer { .. }
        | StreamItem::Produced { .. }
        | StreamItem::IdempotenceCounts { .. } => {}
    }
}
