//! Lists, sets, sorted sets, hashes and arrays, in every layout but that of streams.

use crate::{
    Depth, Event, Item, Part, ValueType,
    cursor::{Cursor, FaultKind, Stop},
    packed::{
        Damage, Entry, intset,
        listpack::{self, Listpack},
        parse_score, ziplist, zipmap,
    },
    text,
    walk::{Context, Step, UNIT_BYTES, decode},
};

const NO_SCORE: Damage = "a score is not a number";

/// What follows in the file for one element, in this order.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Text(Part),
    /// A length byte and ASCII.
    OldScore,
    Score,
    /// Eight bytes of milliseconds, all ones for none (Valkey 9).
    Expiry,
    /// In front of the field, relative to the earliest expiry of the hash (Redis 7.4).
    RelativeExpiry,
    /// Nothing in the file: the relative expiry is told behind the field's value.
    TellExpiry,
    Ziplist,
    /// A plain element, or a listpack of elements.
    QuicklistNode,
    ArrayIndex,
    ArrayElement,
    /// Nothing in the file: the field's name is in the template.
    TemplateField,
}

/// A packed structure that is a whole value, or a node of a list.
#[derive(Debug, Clone, Copy)]
enum Packed {
    Zipmap,
    Intset,
    ZsetZiplist,
    HashZiplist,
    ListZiplist,
    HashListpack,
    ZsetListpack,
    SetListpack,
    ListListpack,
    HashListpackEx,
    HashTemplate,
    HashTemplateWhole,
}

/// How a layout is walked.
#[derive(Debug)]
enum Layout {
    Pieces(&'static [Piece]),
    Packed(Packed),
}

#[derive(Debug)]
pub(crate) struct Collection {
    layout: Layout,
    /// Elements, or nodes, that are not complete.
    left: u64,
    /// The next piece of the current element.
    at: usize,
    /// Elements seen; of packed nodes, their entries.
    elements: u64,
    /// The hash's earliest field expiry.
    earliest: i64,
    /// Of the field that is being read.
    expiry: Option<i64>,
    template: Template,
}

/// The fields of a hash that holds only values.
#[derive(Debug)]
enum Template {
    None,
    /// In the file's templates, by this id.
    Id(u64),
    /// In front of the values.
    Own(Vec<Vec<u8>>),
}

impl Collection {
    /// Reads what stands before the first element.
    #[inline]
    pub(crate) fn start(value_type: ValueType, context: &mut Context, cursor: &mut Cursor<'_>) -> Result<Self, Stop> {
        use Piece as P;
        use ValueType as T;
        const FIELD: P = P::Text(Part::Field);
        const VALUE: P = P::Text(Part::FieldValue);
        const MEMBER: P = P::Text(Part::Member);
        let layout = match value_type {
            T::List => Layout::Pieces(&[P::Text(Part::Element)]),
            T::Set => Layout::Pieces(&[MEMBER]),
            T::Zset => Layout::Pieces(&[MEMBER, P::OldScore]),
            T::Zset2 => Layout::Pieces(&[MEMBER, P::Score]),
            T::Hash => Layout::Pieces(&[FIELD, VALUE]),
            T::ValkeyHash2 => Layout::Pieces(&[FIELD, VALUE, P::Expiry]),
            T::HashMetadata | T::HashMetadataPreGa => Layout::Pieces(&[P::RelativeExpiry, FIELD, VALUE, P::TellExpiry]),
            T::ListQuicklist => Layout::Pieces(&[P::Ziplist]),
            T::ListQuicklist2 => Layout::Pieces(&[P::QuicklistNode]),
            T::Array => Layout::Pieces(&[P::ArrayIndex, P::ArrayElement]),
            T::HashTemplateArray | T::HashTemplateArrayWhole => Layout::Pieces(&[P::TemplateField, VALUE]),
            T::HashZipmap => Layout::Packed(Packed::Zipmap),
            T::ListZiplist => Layout::Packed(Packed::ListZiplist),
            T::SetIntset => Layout::Packed(Packed::Intset),
            T::ZsetZiplist => Layout::Packed(Packed::ZsetZiplist),
            T::HashZiplist => Layout::Packed(Packed::HashZiplist),
            T::HashListpack => Layout::Packed(Packed::HashListpack),
            T::ZsetListpack => Layout::Packed(Packed::ZsetListpack),
            T::SetListpack => Layout::Packed(Packed::SetListpack),
            T::HashListpackEx | T::HashListpackExPreGa => Layout::Packed(Packed::HashListpackEx),
            T::HashTemplateListpack => Layout::Packed(Packed::HashTemplate),
            T::HashTemplateListpackWhole => Layout::Packed(Packed::HashTemplateWhole),
            T::String
            | T::Module2
            | T::StreamListpacks
            | T::StreamListpacks2
            | T::StreamListpacks3
            | T::StreamListpacks4
            | T::StreamListpacks5 => unreachable!("has a walk of its own"),
        };
        let mut collection =
            Self { layout, left: 1, at: 0, elements: 0, earliest: 0, expiry: None, template: Template::None };
        match value_type {
            T::HashMetadata => {
                collection.earliest = cursor.i64_le()?;
                collection.left = cursor.length()?;
            }
            T::HashMetadataPreGa => {
                // Expiries are absolute: relative to what one more than none is.
                collection.earliest = 1;
                collection.left = cursor.length()?;
            }
            // Repeats what the listpack holds; servers load it into the index of expiries.
            T::HashListpackEx => collection.earliest = cursor.i64_le()?,
            T::Array => {
                collection.left = cursor.length()?;
                if cursor.length()? == 1 {
                    cursor.length()?;
                }
            }
            T::HashTemplateArray => {
                let id = cursor.length()?;
                let Some(fields) = context.templates.get(&id) else {
                    return Err(cursor.damaged("a hash refers to a template that is not in the file"));
                };
                collection.left = fields.len() as u64;
                collection.template = Template::Id(id);
            }
            T::HashTemplateArrayWhole | T::HashTemplateListpackWhole => {
                let fields = own_fields(context, cursor)?;
                if value_type == T::HashTemplateArrayWhole {
                    collection.left = fields.len() as u64;
                }
                collection.template = Template::Own(fields);
            }
            _ if matches!(collection.layout, Layout::Pieces(_)) => collection.left = cursor.length()?,
            _ => {}
        }
        Ok(collection)
    }

    /// Goes on where the last call stopped.
    #[inline]
    pub(crate) fn go_on<F: FnMut(Event<'_>)>(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Step, Stop> {
        match self.layout {
            Layout::Packed(kind) if self.left > 0 => {
                if let Some(pass) = self.packed(kind, context, cursor, sink)? {
                    self.left = 0;
                    return Ok(pass);
                }
            }
            Layout::Packed(_) => {}
            Layout::Pieces(pieces) => {
                let values = context.depth == Depth::Values;
                while self.left > 0 {
                    // Nearly all text is short and here.
                    let pass = if let Piece::Text(part) = pieces[self.at]
                        && let Some(bytes) = cursor.plain()
                    {
                        self.elements += 1;
                        if values {
                            sink(Event::Item(Item::Text { part, bytes, last: true }));
                        }
                        None
                    } else {
                        self.piece(pieces[self.at], context, cursor, sink)?
                    };
                    cursor.commit();
                    self.at += 1;
                    if self.at == pieces.len() {
                        self.at = 0;
                        self.left -= 1;
                    }
                    if let Some(pass) = pass {
                        return Ok(pass);
                    }
                }
            }
        }
        Ok(Step::Done { empty: self.elements == 0 && context.depth != Depth::Frame })
    }

    #[inline]
    fn piece<F: FnMut(Event<'_>)>(
        &mut self,
        piece: Piece,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Option<Step>, Stop> {
        let values = context.depth == Depth::Values;
        match piece {
            Piece::Text(part) => {
                let passing = text::begin(cursor, context.depth, part, &mut context.scratch, sink)?;
                self.elements += 1;
                return Ok(passing.map(Step::Pass));
            }
            Piece::OldScore => {
                let score = old_score(cursor)?;
                if values {
                    sink(Event::Item(Item::Score(score)));
                }
            }
            Piece::Score => {
                let score = f64::from_le_bytes(cursor.array()?);
                if score.is_nan() {
                    return Err(cursor.damaged(NO_SCORE));
                }
                if values {
                    sink(Event::Item(Item::Score(score)));
                }
            }
            Piece::Expiry => {
                let time = cursor.i64_le()?;
                if values && time != -1 {
                    sink(Event::Item(Item::FieldExpiry(time)));
                }
            }
            Piece::RelativeExpiry => {
                self.expiry = match cursor.length()? {
                    0 => None,
                    n => {
                        let time = self.earliest.checked_add_unsigned(n - 1);
                        Some(time.ok_or_else(|| cursor.damaged("a field's expiry is beyond all time"))?)
                    }
                };
            }
            Piece::TellExpiry => {
                if let (true, Some(time)) = (values, self.expiry) {
                    sink(Event::Item(Item::FieldExpiry(time)));
                }
            }
            Piece::Ziplist => return self.packed(Packed::ListZiplist, context, cursor, sink),
            Piece::QuicklistNode => match cursor.length()? {
                1 => return self.piece(Piece::Text(Part::Element), context, cursor, sink),
                2 => return self.packed(Packed::ListListpack, context, cursor, sink),
                _ => return Err(cursor.damaged("a node of a list is neither plain nor packed")),
            },
            Piece::ArrayIndex => {
                let index = cursor.length()?;
                if values {
                    sink(Event::Item(Item::ArrayIndex(index)));
                }
            }
            Piece::ArrayElement => return self.array_element(context, cursor, sink),
            Piece::TemplateField if values => {
                let fields = match &self.template {
                    Template::Own(fields) => fields.as_slice(),
                    Template::Id(id) => context.templates.get(id).map_or(&[][..], Vec::as_slice),
                    Template::None => &[],
                };
                if let Some(name) = fields.len().checked_sub(self.left as usize).and_then(|at| fields.get(at)) {
                    text::pieces(Part::Field, name, sink);
                }
            }
            Piece::TemplateField => {}
        }
        Ok(None)
    }

    /// An element of an array: a tag, then text, a number or a double, all of which clients see as text.
    fn array_element<F: FnMut(Event<'_>)>(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Option<Step>, Stop> {
        let values = context.depth == Depth::Values;
        match cursor.length()? {
            0 | 3 => return self.piece(Piece::Text(Part::ArrayElement), context, cursor, sink),
            1 => {
                let n = cursor.i64_le()?;
                if values {
                    text::entry(Part::ArrayElement, Entry::Integer(n), sink);
                }
            }
            2 => {
                let n = f64::from_le_bytes(cursor.array()?);
                if values {
                    text::pieces(Part::ArrayElement, n.to_string().as_bytes(), sink);
                }
            }
            _ => return Err(cursor.damaged("this number tags no element of an array")),
        }
        self.elements += 1;
        Ok(None)
    }

    /// One packed structure: passes unread at the depth *frame*.
    #[inline]
    fn packed<F: FnMut(Event<'_>)>(
        &mut self,
        kind: Packed,
        context: &mut Context,
        cursor: &mut Cursor<'_>,
        sink: &mut F,
    ) -> Result<Option<Step>, Stop> {
        if context.depth == Depth::Frame {
            // The part is never told at this depth.
            let passing = text::begin(cursor, Depth::Frame, Part::Element, &mut context.scratch, sink)?;
            cursor.commit();
            return Ok(passing.map(Step::Pass));
        }
        let at = cursor.position();
        let stored = cursor.string("a packed structure", context.limits.packed_bytes)?;
        let mut scratch = std::mem::take(&mut context.scratch);
        let checked = decode(stored, &mut scratch).and_then(|blob| walk(kind, blob, &self.template, context, sink));
        context.scratch = scratch;
        self.elements += checked.map_err(|what| Cursor::fault_at(at, FaultKind::Damaged(what)))?;
        cursor.commit();
        Ok(None)
    }
}

/// The fields in front of a hash's values, as DUMP writes them: packed, or one by one (`rdb.c:rdbLoadTemplateFields`).
fn own_fields(context: &mut Context, cursor: &mut Cursor<'_>) -> Result<Vec<Vec<u8>>, Stop> {
    let scratch = &mut context.scratch;
    let mut fields = Vec::new();
    match cursor.length()? {
        0 => {
            let stored = cursor.string("the packed fields of a hash", UNIT_BYTES)?;
            let blob = decode(stored, scratch).map_err(|what| cursor.damaged(what))?;
            let walked = listpack::walk(blob, |_, entry| {
                fields.push(match entry {
                    Entry::Bytes(bytes) => bytes.to_vec(),
                    Entry::Integer(n) => text::integer_text(n),
                });
                Ok(())
            });
            walked.map_err(|what| cursor.damaged(what))?;
        }
        1 => {
            for _ in 0..cursor.length()? {
                let field = cursor.string("a hash's field", UNIT_BYTES)?;
                cursor.bound_unit(UNIT_BYTES)?;
                fields.push(decode(field, scratch).map_err(|what| cursor.damaged(what))?.to_vec());
            }
        }
        _ => return Err(cursor.damaged("the fields of a hash are neither packed nor plain")),
    }
    if fields.is_empty() { Err(cursor.damaged("a hash template has no fields")) } else { Ok(fields) }
}

/// The text form of scores up to RDB version 7.
fn old_score(cursor: &mut Cursor<'_>) -> Result<f64, Stop> {
    Ok(match cursor.byte()? {
        253 => return Err(cursor.damaged(NO_SCORE)),
        254 => f64::INFINITY,
        255 => f64::NEG_INFINITY,
        len => {
            let text = cursor.take(usize::from(len))?;
            parse_score(text).ok_or_else(|| cursor.damaged(NO_SCORE))?
        }
    })
}

/// Checks one packed structure, tells its entries at the depth *values*, and gives their number.
fn walk<F: FnMut(Event<'_>)>(
    kind: Packed,
    blob: &[u8],
    template: &Template,
    context: &Context,
    sink: &mut F,
) -> Result<u64, Damage> {
    let values = context.depth == Depth::Values;
    match kind {
        Packed::Zipmap => zipmap::walk(blob, |field, value| {
            if values {
                text::pieces(Part::Field, field, sink);
                text::pieces(Part::FieldValue, value, sink);
            }
        }),
        Packed::Intset => intset::walk(blob, |n| {
            if values {
                text::entry(Part::Member, Entry::Integer(n), sink);
            }
        }),
        Packed::ListZiplist => ziplist::walk(blob, |_, entry| single(Part::Element, entry, values, sink)),
        Packed::ListListpack | Packed::SetListpack if !values => listpack::count(blob),
        Packed::ListListpack => listpack::walk(blob, |_, entry| single(Part::Element, entry, values, sink)),
        Packed::SetListpack => listpack::walk(blob, |_, entry| single(Part::Member, entry, values, sink)),
        Packed::HashListpack if !values => listpack::count(blob).and_then(odd),
        Packed::ZsetListpack if !values => scores(blob),
        Packed::HashZiplist => ziplist::walk(blob, |i, entry| pair(i, entry, values, sink)).and_then(odd),
        Packed::HashListpack => listpack::walk(blob, |i, entry| pair(i, entry, values, sink)).and_then(odd),
        Packed::ZsetZiplist => ziplist::walk(blob, |i, entry| scored(i, entry, values, sink)).and_then(odd),
        Packed::ZsetListpack => listpack::walk(blob, |i, entry| scored(i, entry, values, sink)).and_then(odd),
        Packed::HashListpackEx => {
            let count = listpack::walk(blob, |i, entry| match i % 3 {
                2 => match entry.integer() {
                    None => Err("a field's expiry is not a number"),
                    Some(time) => {
                        if values && time != 0 {
                            sink(Event::Item(Item::FieldExpiry(time)));
                        }
                        Ok(())
                    }
                },
                half => pair(half, entry, values, sink),
            })?;
            if count.is_multiple_of(3) { Ok(count) } else { Err("a field lacks its value or expiry") }
        }
        Packed::HashTemplate | Packed::HashTemplateWhole => {
            let mut fields = None;
            let count = listpack::walk(blob, |i, entry| match (i, fields) {
                (0, _) => {
                    let id = entry.integer().and_then(|id| u64::try_from(id).ok());
                    fields = match template {
                        // The id meant something in the memory of the server that wrote it.
                        Template::Own(fields) => id.and(Some(fields)),
                        Template::None | Template::Id(_) => id.and_then(|id| context.templates.get(&id)),
                    };
                    if fields.is_some() { Ok(()) } else { Err("a hash refers to a template that is not in the file") }
                }
                (i, Some(fields)) => {
                    let field = fields.get(i as usize - 1).ok_or("a hash has more values than its template fields")?;
                    if values {
                        text::pieces(Part::Field, field, sink);
                        text::entry(Part::FieldValue, entry, sink);
                    }
                    Ok(())
                }
                (_, None) => Err("a hash names no template"),
            })?;
            match fields {
                Some(fields) if fields.len() as u64 + 1 == count => Ok(count - 1),
                _ => Err("a hash has fewer values than its template fields"),
            }
        }
    }
}

/// Of what comes in pairs.
fn odd(count: u64) -> Result<u64, Damage> {
    if count.is_multiple_of(2) { Ok(count) } else { Err("a field or member lacks its other half") }
}

/// Checks members that are not read, and their scores.
fn scores(blob: &[u8]) -> Result<u64, Damage> {
    let mut pack = Listpack::new(blob)?;
    let mut count = 0;
    while pack.skip_entry()? {
        count += 1;
        if let Some(score) = pack.next_entry()? {
            score.score().ok_or(NO_SCORE)?;
            count += 1;
        }
    }
    odd(count)
}

#[inline]
fn single<F: FnMut(Event<'_>)>(part: Part, entry: Entry<'_>, values: bool, sink: &mut F) -> Result<(), Damage> {
    if values {
        text::entry(part, entry, sink);
    }
    Ok(())
}

#[inline]
fn pair<F: FnMut(Event<'_>)>(i: u64, entry: Entry<'_>, values: bool, sink: &mut F) -> Result<(), Damage> {
    single(if i.is_multiple_of(2) { Part::Field } else { Part::FieldValue }, entry, values, sink)
}

#[inline]
fn scored<F: FnMut(Event<'_>)>(i: u64, entry: Entry<'_>, values: bool, sink: &mut F) -> Result<(), Damage> {
    if i.is_multiple_of(2) {
        return single(Part::Member, entry, values, sink);
    }
    let score = entry.score().ok_or(NO_SCORE)?;
    if values {
        sink(Event::Item(Item::Score(score)));
    }
    Ok(())
}
