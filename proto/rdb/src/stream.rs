//! Streams: nodes of entries, the stream's own numbers, groups, producers (`rdb.c:rdbLoadObject`).

use crate::{
    Depth, Event, Item, Part, StreamId, StreamItem, StreamTail,
    cursor::{Cursor, FaultKind, Stop},
    packed::{Damage, listpack::Listpack},
    text,
    walk::{Context, Step, decode},
};

/// What comes next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Node,
    Tail,
    Group,
    Pending,
    Consumers,
    Consumer,
    ConsumerPending,
    NackedCount,
    Nacked,
    Idempotence,
    Producer,
    Produced,
    Counts,
    End,
}

/// Where the walk over a stream is. `version` counts the layouts: 1 is Redis 5.0's.
#[derive(Debug)]
pub(crate) struct Walk {
    version: u8,
    next: Next,
    nodes: u64,
    groups: u64,
    /// Left to read in the group at hand.
    pending: u64,
    consumers: u64,
    held: u64,
    producers: u64,
    produced: u64,
    ids: Ids,
}

/// Whether what the consumers hold is what their group has delivered, in constant memory: counts, and
/// sums of mixed ids, which agree unless the ids differ (or somebody crafted them to).
#[derive(Debug, Default)]
struct Ids {
    pending: u64,
    held: u64,
    sum: u128,
}

impl Ids {
    fn mix(id: StreamId) -> u128 {
        // Odd constants of splitmix64; any mixing will do.
        let a = (id.millis ^ id.sequence.rotate_left(32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (id.sequence ^ a.rotate_left(29)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(a) << 64 | u128::from(b)
    }

    fn add_pending(&mut self, id: StreamId) {
        self.pending += 1;
        self.sum = self.sum.wrapping_add(Self::mix(id));
    }

    fn add_held(&mut self, id: StreamId) {
        self.held += 1;
        self.sum = self.sum.wrapping_sub(Self::mix(id));
    }

    /// Servers refuse a consumer's entry that its group does not know, but load a group's entry that no
    /// consumer holds; that cannot be told from a mismatch by sums, so it is accepted.
    fn check(&self) -> Result<(), Damage> {
        if self.held > self.pending || self.held == self.pending && self.sum != 0 {
            Err("a consumer holds an entry that its group has not delivered")
        } else {
            Ok(())
        }
    }
}

impl Walk {
    pub(crate) fn start(version: u8, cursor: &mut Cursor<'_>) -> Result<Self, Stop> {
        let nodes = cursor.length()?;
        let next = if nodes == 0 { Next::Tail } else { Next::Node };
        Ok(Self {
            version,
            next,
            nodes,
            groups: 0,
            pending: 0,
            consumers: 0,
            held: 0,
            producers: 0,
            produced: 0,
            ids: Ids::default(),
        })
    }

    pub(crate) fn go_on<F: FnMut(Event<'_>)>(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Step, Stop> {
        while self.next != Next::End {
            let pass = self.step(context, cursor, sink)?;
            cursor.commit();
            if let Some(pass) = pass {
                return Ok(pass);
            }
        }
        Ok(Step::Done { empty: false })
    }

    fn step<F: FnMut(Event<'_>)>(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Option<Step>, Stop> {
        let values = context.depth == Depth::Values;
        let mut tell = |item: StreamItem<'_>| {
            if values {
                sink(Event::Item(Item::Stream(item)));
            }
        };
        match self.next {
            Next::Node => return self.node(context, cursor, sink),
            Next::Tail => {
                let (length, last_id) = (cursor.length()?, id_lengths(cursor)?);
                let since_7_0 = match self.version {
                    1 => None,
                    _ => Some(StreamTail {
                        first_id: id_lengths(cursor)?,
                        max_deleted_id: id_lengths(cursor)?,
                        entries_added: cursor.length()?,
                    }),
                };
                self.groups = cursor.length()?;
                tell(StreamItem::Tail { length, last_id, since_7_0 });
                self.next_group();
            }
            Next::Group => {
                let name = cursor.string("a group's name", context.limits.name_bytes)?;
                let last_id = id_lengths(cursor)?;
                let entries_read = match self.version {
                    1 => None,
                    // The server's "not known" is -1.
                    _ => Some(cursor.length()?).filter(|n| *n != u64::MAX),
                };
                self.pending = cursor.length()?;
                let name = decode(name, &mut context.scratch).map_err(|what| cursor.damaged(what))?;
                tell(StreamItem::Group { name, last_id, entries_read });
                self.ids = Ids::default();
                self.next = if self.pending > 0 { Next::Pending } else { Next::Consumers };
            }
            Next::Pending => {
                let id = id_bytes(cursor)?;
                let (delivered_at, deliveries) = (cursor.i64_le()?, cursor.length()?);
                self.ids.add_pending(id);
                tell(StreamItem::Pending { id, delivered_at, deliveries });
                self.pending -= 1;
                if self.pending == 0 {
                    self.next = Next::Consumers;
                }
            }
            Next::Consumers => {
                self.consumers = cursor.length()?;
                self.next_consumer(cursor)?;
            }
            Next::Consumer => {
                let name = cursor.string("a consumer's name", context.limits.name_bytes)?;
                let seen_at = cursor.i64_le()?;
                let active_at = if self.version >= 3 { Some(cursor.i64_le()?) } else { None };
                self.held = cursor.length()?;
                let name = decode(name, &mut context.scratch).map_err(|what| cursor.damaged(what))?;
                tell(StreamItem::Consumer { name, seen_at, active_at });
                self.consumers -= 1;
                if self.held > 0 {
                    self.next = Next::ConsumerPending;
                } else {
                    self.next_consumer(cursor)?;
                }
            }
            Next::ConsumerPending => {
                let id = id_bytes(cursor)?;
                self.ids.add_held(id);
                tell(StreamItem::ConsumerPending(id));
                self.held -= 1;
                if self.held == 0 {
                    self.next_consumer(cursor)?;
                }
            }
            Next::NackedCount => {
                self.held = cursor.length()?;
                self.next = Next::Nacked;
                if self.held == 0 {
                    self.next_group();
                }
            }
            Next::Nacked => {
                let id = id_bytes(cursor)?;
                tell(StreamItem::Nacked(id));
                self.held -= 1;
                if self.held == 0 {
                    self.next_group();
                }
            }
            Next::Idempotence => {
                let (duration, max_entries) = (cursor.length()?, cursor.length()?);
                self.producers = cursor.length()?;
                tell(StreamItem::Idempotence { duration, max_entries });
                self.next_producer();
            }
            Next::Producer => {
                let name = cursor.string("a producer's name", context.limits.name_bytes)?;
                self.produced = cursor.length()?;
                let name = decode(name, &mut context.scratch).map_err(|what| cursor.damaged(what))?;
                tell(StreamItem::Producer { name });
                self.producers -= 1;
                self.next = Next::Produced;
                if self.produced == 0 {
                    self.next_producer();
                }
            }
            Next::Produced => {
                let message = cursor.string("a message's id", context.limits.name_bytes)?;
                let id = id_lengths(cursor)?;
                let message = decode(message, &mut context.scratch).map_err(|what| cursor.damaged(what))?;
                tell(StreamItem::Produced { message, id });
                self.produced -= 1;
                if self.produced == 0 {
                    self.next_producer();
                }
            }
            Next::Counts => {
                let (added, duplicates) = (cursor.length()?, cursor.length()?);
                tell(StreamItem::IdempotenceCounts { added, duplicates });
                self.next = Next::End;
            }
            Next::End => {}
        }
        Ok(None)
    }

    fn next_group(&mut self) {
        self.next = match self.groups.checked_sub(1) {
            Some(left) => {
                self.groups = left;
                Next::Group
            }
            None if self.version >= 4 => Next::Idempotence,
            None => Next::End,
        };
    }

    fn next_consumer(&mut self, cursor: &Cursor<'_>) -> Result<(), Stop> {
        if self.consumers > 0 {
            self.next = Next::Consumer;
            return Ok(());
        }
        self.ids.check().map_err(|what| cursor.damaged(what))?;
        if self.version >= 5 {
            self.next = Next::NackedCount;
        } else {
            self.next_group();
        }
        Ok(())
    }

    fn next_producer(&mut self) {
        self.next = if self.producers > 0 { Next::Producer } else { Next::Counts };
    }

    /// One node: the id of its first entry, and a listpack of entries that share their fields with it.
    fn node<F: FnMut(Event<'_>)>(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Option<Step>, Stop> {
        let at = cursor.position();
        let key = cursor.string("a stream node's id", context.limits.name_bytes)?;
        let key = decode(key, &mut context.scratch).map_err(|what| cursor.damaged(what))?;
        let Some(first_id) = key.first_chunk().filter(|_| key.len() == 16).map(id_from) else {
            return Err(cursor.damaged("a stream node's id is not 16 bytes long"));
        };
        if context.depth == Depth::Frame {
            let passing = text::begin(cursor, Depth::Frame, Part::EntryField, &mut context.scratch, sink)?;
            self.node_done();
            return Ok(passing.map(Step::Pass));
        }
        let stored = cursor.string("a stream node", context.limits.packed_bytes)?;
        let mut scratch = std::mem::take(&mut context.scratch);
        let values = context.depth == Depth::Values;
        let checked = decode(stored, &mut scratch).and_then(|blob| entries(first_id, blob, values, sink));
        context.scratch = scratch;
        checked.map_err(|what| Cursor::fault_at(at, FaultKind::Damaged(what)))?;
        self.node_done();
        Ok(None)
    }

    fn node_done(&mut self) {
        self.nodes -= 1;
        if self.nodes == 0 {
            self.next = Next::Tail;
        }
    }
}

/// The entry was deleted: it is in the node, and is no entry any more.
const DELETED: i64 = 1;
/// The entry has the fields of the node's first entry.
const SAME_FIELDS: i64 = 2;

/// Checks a node as `t_stream.c:streamValidateListpackIntegrity` does, and tells its entries.
fn entries<F: FnMut(Event<'_>)>(first_id: StreamId, blob: &[u8], values: bool, sink: &mut F) -> Result<(), Damage> {
    const SHAPE: Damage = "a stream node's counts are not those of its entries";
    let mut pack = Listpack::new(blob)?;
    let live = u64::try_from(pack.next_integer()?).map_err(|_| SHAPE)?;
    let deleted = u64::try_from(pack.next_integer()?).map_err(|_| SHAPE)?;
    let shared = u64::try_from(pack.next_integer()?).map_err(|_| SHAPE)?;
    let mut shared_fields = Vec::new();
    for _ in 0..shared {
        if values {
            shared_fields.push(pack.next_required()?);
        } else {
            pack.skip_required()?;
        }
    }
    if pack.next_integer()? != 0 {
        return Err(SHAPE);
    }
    for _ in 0..live.checked_add(deleted).ok_or(SHAPE)? {
        let flags = pack.next_integer()?;
        let id = StreamId {
            millis: first_id.millis.wrapping_add_signed(pack.next_integer()?),
            sequence: first_id.sequence.wrapping_add_signed(pack.next_integer()?),
        };
        let told = values && flags & DELETED == 0;
        if told {
            sink(Event::Item(Item::Stream(StreamItem::Entry(id))));
        }
        let same = flags & SAME_FIELDS != 0;
        let fields = if same { shared } else { u64::try_from(pack.next_integer()?).map_err(|_| SHAPE)? };
        for i in 0..fields {
            if !values {
                if !same {
                    pack.skip_required()?;
                }
                pack.skip_required()?;
                continue;
            }
            let field = if same { shared_fields.get(i as usize).copied() } else { Some(pack.next_required()?) };
            let value = pack.next_required()?;
            if let (true, Some(field)) = (told, field) {
                text::entry(Part::EntryField, field, sink);
                text::entry(Part::EntryValue, value, sink);
            }
        }
        // How many listpack entries the stream entry has, this number aside.
        let parts = if same { fields.checked_add(3) } else { fields.checked_mul(2).and_then(|n| n.checked_add(4)) };
        if u64::try_from(pack.next_integer()?).ok() != parts {
            return Err(SHAPE);
        }
    }
    if pack.next_entry()?.is_some() { Err(SHAPE) } else { Ok(()) }
}

/// An id as 16 bytes, big-endian, so that ids sort as bytes.
fn id_bytes(cursor: &mut Cursor<'_>) -> Result<StreamId, Stop> {
    Ok(id_from(&cursor.array()?))
}

fn id_from(bytes: &[u8; 16]) -> StreamId {
    let both = u128::from_be_bytes(*bytes);
    StreamId { millis: (both >> 64) as u64, sequence: both as u64 }
}

/// An id as two lengths.
fn id_lengths(cursor: &mut Cursor<'_>) -> Result<StreamId, Stop> {
    Ok(StreamId { millis: cursor.length()?, sequence: cursor.length()? })
}
