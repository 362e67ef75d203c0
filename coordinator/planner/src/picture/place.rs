//! Where everything goes in the SVG: offsets to the right, lanes downwards, labels out of each
//! other's way.
//!
//! The order along a tree is that of the offsets. The distance is not: between two offsets lies the
//! logarithm of the bytes, so that a year and a second fit one picture.

use urtext_types::Offset;

use super::{Begins, Drawn, Folded, Item, Mark, Shape, Tree};
use crate::{print::cut, wording::count};

/// Characters of a monospaced font, in units of the font's size: of the common ones, the widest.
const EM: f64 = 0.61;
pub(super) const LARGE: f64 = 13.0;
pub(super) const SMALL: f64 = 10.5;

const LEFT: f64 = 28.0;
const LEAST_GAP: f64 = 17.0;
/// What the greatest distance between two offsets adds to the least one: less where there is much to draw.
const GREATEST_GAP: f64 = 60.0;
const LEAST_GREATEST_GAP: f64 = 12.0;
/// As wide as a screen.
const COMFORTABLE_WIDTH: f64 = 1400.0;
/// Marks at one offset stand this far apart.
const BESIDE: f64 = 15.0;
/// From a fork to the beginning of the lane that leaves there.
pub(super) const ELBOW: f64 = 18.0;
const ABOVE: f64 = 22.0;
const BELOW: f64 = 18.0;
/// Two lines of a label.
pub(super) const LEVEL: f64 = 28.0;
/// Longer labels are cut; what they say stands in the tooltip.
const LABEL: usize = 52;
/// Labels that would overlap stand at different levels. After this many of them the line is drawn out
/// until there is room for the next one at the line.
const LEVELS: usize = 6;

/// A tree with its places, from the point at its upper left.
pub(super) struct Placed {
    /// Of every item of every lane.
    pub(super) x: Vec<Vec<f64>>,
    /// Of the line of every lane.
    pub(super) y: Vec<f64>,
    /// How many levels from the line the label of every item stands: of a mark below it, of the
    /// beginning of a history above it.
    pub(super) level: Vec<Vec<usize>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

pub(super) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * EM
}

/// The two lines beside a mark; `None` for one that is only a dot.
pub(super) fn label(mark: &Mark, offset: Option<Offset>, name_backups: bool) -> Option<[String; 2]> {
    let at = offset.map_or_else(|| "no position".to_owned(), |offset| offset.to_string());
    let first = match mark.shape {
        Shape::Backup if !name_backups => return None,
        Shape::Live | Shape::Silent => format!("{} ({})", mark.name, mark.place),
        Shape::Canonical | Shape::Doubtful | Shape::Remembered => mark.name.clone(),
        Shape::Backup => mark.place.clone(),
    };
    let place = match mark.shape {
        Shape::Canonical | Shape::Doubtful => Some(mark.place.as_str()),
        _ => None,
    };
    let remarks = mark.remarks.iter().map(String::as_str);
    let remarks: Vec<_> = match mark.shape {
        Shape::Remembered => vec!["remembered"],
        _ => place.into_iter().chain(remarks).collect(),
    };
    let second = std::iter::once(at.as_str()).chain(remarks).collect::<Vec<_>>().join(", ");
    Some([first, second].map(|line| cut(&line, LABEL)))
}

pub(super) fn label_width([first, second]: &[String; 2]) -> f64 {
    width_of(first, SMALL).max(width_of(second, SMALL)) + 16.0
}

/// What stands above the line where a history begins: its name, then offset and age.
pub(super) fn above(drawn: &Drawn, offset: Offset) -> Option<[String; 2]> {
    match drawn {
        Drawn::History(history) => {
            let place = match history.begins {
                Begins::Unknown => history.words.clone(),
                Begins::Forked { is_exact: true } => format!("after {offset}"),
                Begins::Forked { is_exact: false } => format!("at or after {offset}"),
                Begins::GoesOn => format!("goes on after {offset}"),
            };
            let ago = if history.ago.is_empty() { String::new() } else { format!(", {}", history.ago) };
            Some([history.name.clone(), format!("{place}{ago}")])
        }
        Drawn::Folded(Folded { histories: 0, backups, .. }) => Some([format!("+{backups}"), "backups".to_owned()]),
        Drawn::Folded(Folded { histories, backups, .. }) => Some([
            format!("+{}", count(*histories, "history", "histories")),
            format!("with {}", count(*backups, "backup", "backups")),
        ]),
        Drawn::Mark(_) | Drawn::Branch(_) => None,
    }
}

fn above_width([first, second]: &[String; 2]) -> f64 {
    width_of(first, LARGE).max(width_of(second, SMALL)) + 14.0
}

pub(super) fn place(tree: &Tree, name_backups: bool) -> Placed {
    let (x, right) = across(tree, name_backups);
    let mut level: Vec<Vec<usize>> = Vec::with_capacity(tree.lanes.len());
    let mut room = Vec::with_capacity(tree.lanes.len());
    for (lane, x) in tree.lanes.iter().zip(&x) {
        let labels = |is_above: bool| {
            let items = lane.items.iter().enumerate();
            let labels = items.filter_map(move |(i, item)| Some((i, width_of_label(item, is_above, name_backups)?)));
            labels.collect::<Vec<_>>()
        };
        let mut levels = vec![0; lane.items.len()];
        let above = stack(x, &labels(true), &mut levels);
        let below = stack(x, &labels(false), &mut levels);
        level.push(levels);
        room.push((ABOVE + LEVEL * above as f64, BELOW + LEVEL * below as f64));
    }
    let (y, height) = down(tree, &room);
    Placed { x, y, level, width: right + LEFT, height }
}

/// Gives labels their levels, and says how many there are. From the right: whatever begins further left
/// goes further away from the line, and its leader passes to the left of what stands nearer.
fn stack(x: &[f64], labels: &[(usize, f64)], levels: &mut [usize]) -> usize {
    let mut begins: Vec<f64> = Vec::new();
    for &(i, width) in labels.iter().rev() {
        let free = begins.iter().position(|&begin| x[i] + width <= begin).unwrap_or(begins.len());
        levels[i] = free;
        begins.resize(begins.len().max(free + 1), f64::INFINITY);
        for begin in &mut begins[..=free] {
            *begin = begin.min(x[i]);
        }
    }
    begins.len()
}

fn width_of_label(item: &Item, is_above: bool, name_backups: bool) -> Option<f64> {
    match &item.drawn {
        Drawn::Mark(mark) if !is_above => label(mark, Some(item.offset), name_backups).map(|label| label_width(&label)),
        drawn if is_above => above(drawn, item.offset).map(|text| above_width(&text)),
        _ => None,
    }
}

/// The place of every item to the right, and where the last one ends.
fn across(tree: &Tree, name_backups: bool) -> (Vec<Vec<f64>>, f64) {
    let mut order = Vec::new();
    // Where writes were not counted, an offset may be smaller than the one before it.
    let mut begins_after = vec![Offset::ZERO; tree.lanes.len()];
    for (lane, items) in tree.lanes.iter().map(|lane| &lane.items).enumerate() {
        let mut greatest = begins_after[lane];
        for (i, item) in items.iter().enumerate() {
            greatest = greatest.max(item.offset);
            order.push((greatest, lane, i));
            if let Drawn::Branch(branch) = item.drawn {
                begins_after[branch] = greatest;
            }
        }
    }
    order.sort_unstable();
    let logarithm = |from: Offset, to: Offset| (1.0 + to.bytes_since(from).get() as f64).ln();
    // Nobody knows how long the time before the first copy was.
    let gaps = order.windows(2).filter(|pair| pair[0].0 > Offset::ZERO);
    let greatest = gaps.map(|pair| logarithm(pair[0].0, pair[1].0)).fold(1.0, f64::max);
    let distinct = order.chunk_by(|a, b| a.0 == b.0).count() as f64;
    let spare = COMFORTABLE_WIDTH / distinct.max(1.0) - LEAST_GAP;
    let widest = spare.clamp(LEAST_GREATEST_GAP, GREATEST_GAP);
    let mut x: Vec<Vec<f64>> = tree.lanes.iter().map(|lane| vec![0.0; lane.items.len()]).collect();
    let lanes = tree.lanes.len();
    let mut last = vec![0.0; lanes];
    let (mut above, mut below) = (vec![Row::default(); lanes], vec![Row::default(); lanes]);
    let (mut here, mut furthest, mut right, mut before) = (LEFT, LEFT, LEFT, Offset::ZERO);
    for (offset, lane, i) in order {
        if offset > before {
            let gap = if before > Offset::ZERO { widest * logarithm(before, offset) / greatest } else { 0.0 };
            here = furthest + LEAST_GAP + gap;
            before = offset;
        }
        let item = &tree.lanes[lane].items[i];
        let mut at = f64::max(here, last[lane]);
        if let Drawn::Branch(branch) = item.drawn {
            // The line that leaves here goes down: past the labels, not through them.
            at = at.max(below[lane].furthest);
            last[branch] = at + ELBOW;
        }
        let mut label = None;
        for (is_above, row) in [(true, &mut above[lane]), (false, &mut below[lane])] {
            if let Some(width) = width_of_label(item, is_above, name_backups) {
                at = row.make_room(at, width);
                label = Some(width);
            }
        }
        x[lane][i] = at;
        last[lane] = at + BESIDE;
        furthest = f64::max(furthest, at);
        right = f64::max(right, at + label.unwrap_or(BESIDE));
    }
    (x, right)
}

/// The labels on one side of a lane, as far as they are placed.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Where the one that reaches furthest ends.
    furthest: f64,
    /// How many in a row have begun before those before them ended.
    crowded: usize,
}

impl Row {
    /// Where a label that wants to begin at `at` does begin.
    fn make_room(&mut self, mut at: f64, width: f64) -> f64 {
        self.crowded = if at < self.furthest { self.crowded + 1 } else { 0 };
        if self.crowded >= LEVELS {
            at = self.furthest;
            self.crowded = 0;
        }
        self.furthest = self.furthest.max(at + width);
        at
    }
}

/// The place of every lane downwards, and where the last one ends. A lane that leaves another one
/// early is further down than one that leaves it late, so that no fork crosses a line.
fn down(tree: &Tree, room: &[(f64, f64)]) -> (Vec<f64>, f64) {
    let mut y = vec![0.0; tree.lanes.len()];
    let mut bottom = 0.0;
    let mut open = vec![0];
    while let Some(lane) = open.pop() {
        let (above, below) = room[lane];
        y[lane] = bottom + above;
        bottom = y[lane] + below;
        open.extend(tree.lanes[lane].items.iter().filter_map(|item| match item.drawn {
            Drawn::Branch(branch) => Some(branch),
            _ => None,
        }));
    }
    (y, bottom)
}
