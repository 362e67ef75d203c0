//! The content of a file in words: slow, in memory, and obvious. What the digest is measured by.

use urtext_rdb::{Event, Item, LogicalType, ModuleItem, Part, StreamItem};

use crate::content::events;

/// Every record and function of a sound file, in an order that does not depend on the file.
pub(crate) fn canonical(bytes: &[u8]) -> Vec<Vec<String>> {
    let mut content = Vec::new();
    let mut record: Option<Record> = None;
    events(bytes, &mut |event| match event {
        Event::Key(key) => {
            let logical = key.value_type.logical();
            let head = format!("{} {:?} {logical} {:?} {:?}", key.database, key.key, key.expires_at, key.module);
            record = Some(Record { logical, head, elements: Vec::new() });
        }
        Event::Item(item) => {
            if let Some(record) = &mut record {
                record.item(&item);
            }
        }
        Event::KeyEnd(end) => {
            if let (Some(record), false) = (record.take(), end.empty) {
                content.push(record.finish());
            }
        }
        Event::Function { source } => content.push(vec![format!("function {source:?}")]),
        _ => {}
    })
    .expect("a sound file");
    content.sort();
    content
}

struct Record {
    logical: LogicalType,
    head: String,
    elements: Vec<String>,
}

impl Record {
    fn item(&mut self, item: &Item<'_>) {
        let (begins, text) = match item {
            Item::Text { part, bytes, .. } => (matches!(part, Part::Member | Part::Field), format!("{bytes:?}")),
            Item::Score(score) => (false, format!("score {:x}", (score + 0.0).to_bits())),
            Item::FieldExpiry(time) => (false, format!("until {time}")),
            Item::ArrayIndex(index) => (true, format!("at {index}")),
            Item::Module(ModuleItem::Float(n)) => (true, format!("float {:x}", n.to_bits())),
            Item::Module(ModuleItem::Double(n)) => (true, format!("double {:x}", n.to_bits())),
            Item::Module(other) => (true, format!("{other:?}")),
            Item::Stream(item) => match item {
                StreamItem::Tail { last_id, .. } => (true, format!("last {last_id}")),
                StreamItem::Group { name, last_id, .. } => (true, format!("group {name:?} {last_id}")),
                StreamItem::Consumer { name, .. } => (true, format!("consumer {name:?}")),
                StreamItem::Idempotence { .. }
                | StreamItem::Producer { .. }
                | StreamItem::Produced { .. }
                | StreamItem::IdempotenceCounts { .. } => return,
                other => (true, format!("{other:?}")),
            },
            other => panic!("not known: {other:?}"),
        };
        // The ids of idempotent messages are texts inside their item, and were left out with it.
        let joins = !begins && self.is_unordered();
        match self.elements.last_mut() {
            Some(last) if joins => *last = format!("{last}, {text}"),
            _ => self.elements.push(text),
        }
    }

    fn is_unordered(&self) -> bool {
        matches!(self.logical, LogicalType::Set | LogicalType::Zset | LogicalType::Hash | LogicalType::Array)
    }

    fn finish(mut self) -> Vec<String> {
        if self.is_unordered() {
            self.elements.sort();
        }
        self.elements.insert(0, self.head);
        self.elements
    }
}
