//! The walk over an RDB: header, opcodes, records, end.

use urtext_types::Engine;

use crate::{
    Depth, Event, Key, KeyEnd, ModuleId, Part, RdbHeader, ValueType,
    collection::Collection,
    cursor::{Cursor, FaultKind, Stop},
    header::HEADER_BYTES,
    module, opcode, stream,
    text::{self, Passing},
    walk::{Context, Limits, Step, UNIT_BYTES, decode},
};

/// Where the walk is.
#[derive(Debug)]
enum State {
    Header,
    /// Between records.
    Top,
    /// In the value of a record.
    Key(Value),
    /// In what a module keeps beside the keys.
    ModuleAux,
    Trailer,
    Done,
}

/// Where the walk is in a value.
#[derive(Debug)]
enum Value {
    /// Before the first byte.
    Start(ValueType),
    /// A plain string, of which the head has been read.
    String,
    Collection(Collection),
    Stream(stream::Walk),
    Module,
}

#[derive(Debug)]
pub(crate) struct Machine {
    context: Context,
    header: Option<RdbHeader>,
    database: u32,
    state: State,
    passing: Option<Passing>,
    /// Offset in the file of the current record.
    record: u64,
    /// Offset behind the end mark, once seen.
    covered: Option<u64>,
    stored: Option<Option<u64>>,
    trailing: u64,
}

impl Machine {
    pub(crate) fn new(depth: Depth, limits: Limits) -> Self {
        Self {
            context: Context::new(depth, limits),
            header: None,
            database: 0,
            state: State::Header,
            passing: None,
            record: 0,
            covered: None,
            stored: None,
            trailing: 0,
        }
    }

    pub(crate) fn header(&self) -> Option<RdbHeader> {
        self.header
    }

    /// How many bytes of the file the checksum covers; `None` before the end mark.
    pub(crate) fn covered_by_checksum(&self) -> Option<u64> {
        self.covered
    }

    /// `None` before the end; `Some(None)` where the format has no checksum.
    pub(crate) fn stored_checksum(&self) -> Option<Option<u64>> {
        self.stored
    }

    pub(crate) fn trailing_bytes(&self) -> u64 {
        self.trailing
    }

    /// Reads on until the window holds no complete unit any more. `base` is the offset in the file of
    /// the window's first byte.
    pub(crate) fn run<F: FnMut(Event<'_>)>(&mut self, cursor: &mut Cursor<'_>, base: u64, sink: &mut F) -> Stop {
        let mut raw_from = 0;
        loop {
            let step = match self.state {
                State::Header => self.read_header(cursor, sink),
                State::Top => {
                    raw_from = cursor.position();
                    self.top(cursor, base, sink)
                }
                State::Key(_) => self.key(cursor, base, &mut raw_from, sink),
                State::ModuleAux => self.module_aux(cursor, sink),
                State::Trailer => self.trailer(cursor),
                State::Done => {
                    self.trailing += cursor.take_up_to(u64::MAX).len() as u64;
                    cursor.commit();
                    Err(Stop::More(1))
                }
            };
            if let Err(stop) = step {
                if matches!(self.state, State::Key(_)) && matches!(stop, Stop::More(_)) {
                    self.raw(cursor.range(raw_from, cursor.mark()), sink);
                }
                return stop;
            }
        }
    }

    fn raw<F: FnMut(Event<'_>)>(&self, bytes: &[u8], sink: &mut F) {
        if self.context.depth == Depth::Frame && !bytes.is_empty() {
            sink(Event::Raw(bytes));
        }
    }

    fn read_header<F: FnMut(Event<'_>)>(&mut self, cursor: &mut Cursor<'_>, sink: &mut F) -> Result<(), Stop> {
        let bytes: [u8; HEADER_BYTES] = cursor.array()?;
        let header = RdbHeader::parse(&bytes).map_err(|error| Cursor::fault_at(0, FaultKind::Header(error)))?;
        cursor.commit();
        self.header = Some(header);
        self.state = State::Top;
        sink(Event::Header(header));
        Ok(())
    }

    /// One opcode with its payload, or the head of one record: modifiers, type, key.
    #[inline]
    fn top<F: FnMut(Event<'_>)>(&mut self, cursor: &mut Cursor<'_>, base: u64, sink: &mut F) -> Result<(), Stop> {
        let header = self.header.expect("the header is read before anything else");
        let start = cursor.position();
        let mut head = Head::default();
        let value_type = loop {
            let at = cursor.position();
            let byte = cursor.byte()?;
            match byte {
                ..=opcode::LAST_TYPE => {
                    break ValueType::from_byte(byte, header).map_err(|kind| Cursor::fault_at(at, kind))?;
                }
                opcode::EXPIRETIME_MS => head.expires_at = Some(cursor.i64_le()?),
                opcode::EXPIRETIME => {
                    head.expires_at = Some(i64::from(i32::from_le_bytes(cursor.array()?)) * 1000);
                }
                opcode::IDLE => head.idle_seconds = Some(cursor.length()?),
                opcode::FREQ => head.frequency = Some(cursor.byte()?),
                opcode::KEY_META_OR_SLOT_IMPORT if header.engine == Engine::Redis => {
                    head.has_metadata = true;
                    module::skip_key_metadata(cursor)?;
                }
                _ if at > start => return Err(cursor.damaged("the modifiers of a record are followed by no record")),
                _ => return self.opcode(byte, header, cursor, base, sink),
            }
        };
        let name = cursor.string("a key", self.context.limits.name_bytes)?;
        let module = if value_type == ValueType::Module2 { Some(ModuleId(cursor.length()?)) } else { None };
        let key = decode(name, &mut self.context.scratch).map_err(|what| cursor.damaged(what))?;
        cursor.commit();
        self.record = base + start as u64;
        self.state = State::Key(Value::Start(value_type));
        sink(Event::Key(Key {
            offset: self.record,
            database: self.database,
            key,
            value_type,
            // -1 says "none" to the server too.
            expires_at: head.expires_at.filter(|time| *time != -1),
            idle_seconds: head.idle_seconds,
            frequency: head.frequency,
            has_metadata: head.has_metadata,
            module,
        }));
        Ok(())
    }

    fn opcode<F: FnMut(Event<'_>)>(
        &mut self,
        byte: u8,
        header: RdbHeader,
        cursor: &mut Cursor<'_>,
        base: u64,
        sink: &mut F,
    ) -> Result<(), Stop> {
        let at = cursor.position() - 1;
        let limit = self.context.limits.name_bytes;
        let scratch = &mut self.context.scratch;
        match (byte, header.engine) {
            (opcode::EOF, _) => {
                self.covered = Some(base + cursor.position() as u64);
                self.state = State::Trailer;
            }
            (opcode::SELECTDB, _) => {
                let number = cursor.length()?;
                self.database = u32::try_from(number).map_err(|_| cursor.damaged("no server has so many databases"))?;
                sink(Event::Database(self.database));
            }
            (opcode::RESIZEDB, _) => {
                let (keys, expires) = (cursor.length()?, cursor.length()?);
                sink(Event::SizeHint { keys, expires });
            }
            (opcode::AUX, _) => {
                let key = cursor.string("an auxiliary field", limit)?;
                let value = cursor.string("an auxiliary field", limit)?;
                let key = decode(key, scratch).map_err(|what| cursor.damaged(what))?.to_vec();
                let value = decode(value, scratch).map_err(|what| cursor.damaged(what))?;
                sink(Event::Aux { key: &key, value });
            }
            (opcode::FUNCTION2, _) => {
                let source = cursor.string("a function library", limit)?;
                let source = decode(source, scratch).map_err(|what| cursor.damaged(what))?;
                sink(Event::Function { source });
            }
            (opcode::MODULE_AUX, _) => {
                let module = ModuleId(cursor.length()?);
                module::read_when(cursor)?;
                self.state = State::ModuleAux;
                sink(Event::ModuleAux { module });
            }
            (opcode::SLOT_INFO, Engine::Redis) => {
                let (slot, keys, expires) = (cursor.length()?, cursor.length()?, cursor.length()?);
                sink(Event::SlotInfo { slot, keys, expires });
            }
            (opcode::KEY_META_OR_SLOT_IMPORT, Engine::Valkey) => {
                let job = cursor.string("the name of a slot import", limit)?;
                for _ in 0..cursor.length()? {
                    let (_start, _end) = (cursor.length()?, cursor.length()?);
                    cursor.bound_unit(UNIT_BYTES)?;
                }
                let job = decode(job, scratch).map_err(|what| cursor.damaged(what))?;
                sink(Event::SlotImport { job });
            }
            (opcode::HASH_TEMPLATE, Engine::Redis) => {
                let id = cursor.length()?;
                let mut fields = Vec::new();
                for _ in 0..cursor.length()? {
                    let field = cursor.string("a hash template's field", UNIT_BYTES)?;
                    cursor.bound_unit(UNIT_BYTES)?;
                    fields.push(decode(field, scratch).map_err(|what| cursor.damaged(what))?.to_vec());
                }
                // Servers refuse both (`rdb.c:rdbLoadRioWithLoadingCtx`).
                if fields.is_empty() {
                    return Err(cursor.damaged("a hash template has no fields"));
                }
                if self.context.templates.contains_key(&id) {
                    return Err(cursor.damaged("a hash template's id is given twice"));
                }
                sink(Event::HashTemplate { id, fields: &fields });
                self.context.templates.insert(id, fields);
            }
            (opcode::HASH_TEMPLATE, Engine::Valkey) => {
                let what = "a command inside a forkless synchronization";
                return Err(Cursor::fault_at(at, FaultKind::Unreadable(what, byte)));
            }
            (opcode::FUNCTION_PRE_GA, _) => {
                let what = "a function from before Redis 7.0's release";
                return Err(Cursor::fault_at(at, FaultKind::Unreadable(what, byte)));
            }
            _ => return Err(Cursor::fault_at(at, FaultKind::UnknownOpcode(byte))),
        }
        cursor.commit();
        Ok(())
    }

    /// Goes on with the value of the current record.
    #[inline]
    fn key<F: FnMut(Event<'_>)>(
        &mut self,
        cursor: &mut Cursor<'_>,
        base: u64,
        raw_from: &mut usize,
        sink: &mut F,
    ) -> Result<(), Stop> {
        let State::Key(value) = &mut self.state else { unreachable!("only called in a record") };
        let empty = loop {
            if let Some(passing) = &mut self.passing {
                passing.go_on(cursor, self.context.depth, sink)?;
                self.passing = None;
            }
            let step = match value {
                Value::Start(ValueType::String) => {
                    let scratch = &mut self.context.scratch;
                    let passing = text::begin(cursor, self.context.depth, Part::String, scratch, sink)?;
                    // The one text is here, or it passes and then the value is complete.
                    *value = Value::String;
                    passing.map_or(Step::Done { empty: false }, Step::Pass)
                }
                Value::Start(value_type) => {
                    *value = Value::start(*value_type, &mut self.context, cursor)?;
                    cursor.commit();
                    continue;
                }
                Value::String => Step::Done { empty: false },
                Value::Collection(collection) => collection.go_on(&mut self.context, cursor, sink)?,
                Value::Stream(walk) => walk.go_on(&mut self.context, cursor, sink)?,
                Value::Module => module::go_on(&mut self.context, cursor, sink)?,
            };
            cursor.commit();
            match step {
                Step::Done { empty } => break empty,
                Step::Pass(passing) => self.passing = Some(passing),
            }
        };
        self.state = State::Top;
        self.raw(cursor.range(*raw_from, cursor.position()), sink);
        *raw_from = cursor.position();
        sink(Event::KeyEnd(KeyEnd { bytes: base + cursor.position() as u64 - self.record, empty }));
        Ok(())
    }

    fn module_aux<F: FnMut(Event<'_>)>(&mut self, cursor: &mut Cursor<'_>, sink: &mut F) -> Result<(), Stop> {
        loop {
            if let Some(passing) = &mut self.passing {
                passing.go_on(cursor, self.context.depth, sink)?;
                self.passing = None;
            }
            let step = module::go_on(&mut self.context, cursor, sink)?;
            cursor.commit();
            match step {
                Step::Done { .. } => break,
                Step::Pass(passing) => self.passing = Some(passing),
            }
        }
        self.state = State::Top;
        sink(Event::ModuleAuxEnd);
        Ok(())
    }

    fn trailer(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let header = self.header.expect("the header is read before anything else");
        self.stored = Some(if header.has_checksum() { Some(u64::from_le_bytes(cursor.array()?)) } else { None });
        cursor.commit();
        self.state = State::Done;
        Ok(())
    }
}

/// What stands before the type of a record.
#[derive(Default)]
struct Head {
    expires_at: Option<i64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
    has_metadata: bool,
}

impl Value {
    #[inline]
    fn start(value_type: ValueType, context: &mut Context, cursor: &mut Cursor<'_>) -> Result<Self, Stop> {
        use ValueType as T;
        Ok(match value_type {
            T::String => Self::String,
            T::Module2 => Self::Module,
            T::StreamListpacks => Self::Stream(stream::Walk::start(1, cursor)?),
            T::StreamListpacks2 => Self::Stream(stream::Walk::start(2, cursor)?),
            T::StreamListpacks3 => Self::Stream(stream::Walk::start(3, cursor)?),
            T::StreamListpacks4 => Self::Stream(stream::Walk::start(4, cursor)?),
            T::StreamListpacks5 => Self::Stream(stream::Walk::start(5, cursor)?),
            other => Self::Collection(Collection::start(other, context, cursor)?),
        })
    }
}
