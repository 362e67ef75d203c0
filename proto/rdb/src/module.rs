//! What modules write: their own opcodes, up to an end mark (`module.c:moduleLoadString` and its like).

use crate::{
    Depth, Event, Item, ModuleItem, Part,
    cursor::{Cursor, Stop},
    text,
    walk::{Context, Step, UNIT_BYTES},
};

const END: u64 = 0;
const SIGNED: u64 = 1;
const UNSIGNED: u64 = 2;
const FLOAT: u64 = 3;
const DOUBLE: u64 = 4;
const STRING: u64 = 5;

/// Goes on with a module's own encoding.
pub(crate) fn go_on<F: FnMut(Event<'_>)>(
    context: &mut Context,
    cursor: &mut Cursor<'_>,
    sink: &mut F,
) -> Result<Step, Stop> {
    loop {
        let item = match cursor.length()? {
            END => return Ok(Step::Done { empty: false }),
            SIGNED => ModuleItem::Signed(cursor.length()?.cast_signed()),
            UNSIGNED => ModuleItem::Unsigned(cursor.length()?),
            FLOAT => ModuleItem::Float(f32::from_le_bytes(cursor.array()?)),
            DOUBLE => ModuleItem::Double(f64::from_le_bytes(cursor.array()?)),
            STRING => {
                if let Some(passing) = text::begin(cursor, context.depth, Part::Module, &mut context.scratch, sink)? {
                    return Ok(Step::Pass(passing));
                }
                cursor.commit();
                continue;
            }
            _ => return Err(cursor.damaged("this number is no module opcode")),
        };
        cursor.commit();
        if context.depth == Depth::Values {
            sink(Event::Item(Item::Module(item)));
        }
    }
}

/// `when` of module data beside the keys: written before the keys, or after them.
pub(crate) fn read_when(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    match (cursor.length()?, cursor.length()?) {
        (UNSIGNED, 1 | 2) => Ok(()),
        _ => Err(cursor.damaged("a module's data says neither before nor after the keys")),
    }
}

/// Skips the metadata classes in front of a key: a count, then for each a four-byte specification and
/// module opcodes.
pub(crate) fn skip_key_metadata(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    for _ in 0..cursor.length()? {
        cursor.take(4)?;
        loop {
            match cursor.length()? {
                END => break,
                SIGNED | UNSIGNED => drop(cursor.length()?),
                FLOAT => drop(cursor.take(4)?),
                DOUBLE => drop(cursor.take(8)?),
                STRING => drop(cursor.string("a key's metadata", UNIT_BYTES)?),
                _ => return Err(cursor.damaged("this number is no module opcode")),
            }
            cursor.bound_unit(UNIT_BYTES)?;
        }
    }
    Ok(())
}
