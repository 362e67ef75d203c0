//! Ground truth: which writes every data set that ever was is made of.
//!
//! A data set only ever grows at its end, or is replaced whole by one that was before. So all of them
//! form a tree of *strands*, and a [`Point`] in it is a data set: one is contained in another if and
//! only if it lies on the way to it. Nothing here knows of replication ids or offsets, so nothing here
//! can make the same mistake as what is tested by it.

/// The first `len` items of a strand, after all that came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    strand: u32,
    len: u32,
}

/// What one command in the stream does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Adds a key that never was there before.
    Key,
    /// Removes all keys.
    Flush,
    /// Removes so many keys whose time had come.
    Expire(u32),
    /// Says nothing about the data: `PING`, `SELECT`.
    Nothing,
}

/// One command, or one thing that happened to a data set without being counted.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// Bytes in the stream from the very beginning of the way up to here.
    total: u64,
    keys: u32,
    /// The last point up to here that ends with a change of the data.
    solid: Point,
    /// When it was accepted.
    at: i64,
}

#[derive(Debug, Default)]
struct Strand {
    parent: Option<Point>,
    items: Vec<Item>,
}

/// All strands of one deployment.
#[derive(Debug, Default)]
pub struct Truth {
    strands: Vec<Strand>,
}

impl Truth {
    fn strand(&mut self, parent: Option<Point>) -> u32 {
        self.strands.push(Strand { parent, items: Vec::new() });
        (self.strands.len() - 1) as u32
    }

    /// A data set that has nothing in common with any other: a server that starts with so many keys.
    pub fn root(&mut self, keys: u32, at: i64) -> Point {
        let strand = self.strand(None);
        let point = Point { strand, len: 1 };
        self.strands[strand as usize].items.push(Item { total: 0, keys, solid: point, at });
        point
    }

    /// A new strand that begins with `point`, for somebody else to write on.
    pub fn branch(&mut self, point: Point) -> Point {
        let strand = self.strand(Some(point));
        Point { strand, len: 0 }
    }

    /// Writes one more command after `point`, the end of its strand or of a new one if that went on.
    #[must_use]
    pub fn write(&mut self, point: Point, bytes: u64, change: Change, at: i64) -> Point {
        let point = if self.items(point.strand).len() == point.len as usize { point } else { self.branch(point) };
        let (total, keys, solid) = (self.total(point), self.keys(point), self.solid(point));
        let next = Point { len: point.len + 1, ..point };
        let keys = match change {
            Change::Key => keys + 1,
            Change::Flush => 0,
            Change::Expire(n) => keys.saturating_sub(n),
            Change::Nothing => keys,
        };
        let solid = if change == Change::Nothing { solid } else { next };
        self.strands[point.strand as usize].items.push(Item { total: total + bytes, keys, solid, at });
        next
    }

    fn items(&self, strand: u32) -> &[Item] {
        &self.strands[strand as usize].items
    }

    fn parent(&self, point: Point) -> Option<Point> {
        self.strands[point.strand as usize].parent
    }

    fn last(&self, point: Point) -> Option<&Item> {
        Some(&self.items(point.strand)[(point.len as usize).checked_sub(1)?])
    }

    /// The same data set, on the strand where its last item is.
    pub fn own(&self, mut point: Point) -> Point {
        while point.len == 0
            && let Some(parent) = self.parent(point)
        {
            point = parent;
        }
        point
    }

    fn of_last<T>(&self, point: Point, of: impl Fn(&Item) -> T) -> T {
        of(self.last(self.own(point)).expect("a strand without a parent begins with an item"))
    }

    /// Bytes in the stream from the beginning of the way to `point`.
    pub fn total(&self, point: Point) -> u64 {
        self.of_last(point, |item| item.total)
    }

    /// How many keys it holds.
    pub fn keys(&self, point: Point) -> u32 {
        self.of_last(point, |item| item.keys)
    }

    /// The same data without the pings at its end.
    pub fn solid(&self, point: Point) -> Point {
        self.of_last(point, |item| item.solid)
    }

    /// Whether every item of `inner` is one of `outer`.
    pub fn holds(&self, outer: Point, inner: Point) -> bool {
        let inner = self.own(inner);
        let mut outer = outer;
        loop {
            if outer.strand == inner.strand {
                return inner.len <= outer.len;
            }
            match self.parent(outer) {
                Some(parent) => outer = parent,
                None => return false,
            }
        }
    }

    pub fn same(&self, a: Point, b: Point) -> bool {
        self.own(a) == self.own(b)
    }

    /// The last data set that both come from; `None` if they have no beginning in common.
    pub fn common(&self, a: Point, b: Point) -> Option<Point> {
        let mut on_a = self.own(a);
        loop {
            if self.holds(b, on_a) {
                return Some(on_a);
            }
            // Where `b` leaves this strand, if it ever was on it.
            let mut on_b = self.own(b);
            while on_b.strand != on_a.strand {
                match self.parent(on_b) {
                    Some(parent) => on_b = parent,
                    None => break,
                }
            }
            if on_b.strand == on_a.strand {
                return Some(self.own(Point { len: on_b.len.min(on_a.len), ..on_a }));
            }
            on_a = self.own(self.parent(on_a)?);
        }
    }

    /// The data set that is `commands` further than `from` on the way to `to`.
    ///
    /// # Panics
    /// `from` is not on the way to `to`: the model let a replica continue where it must not.
    pub fn further(&self, from: Point, to: Point, commands: usize) -> Point {
        assert!(self.holds(to, from), "a replica continues what it does not hold: {from:?} on the way to {to:?}");
        let mut from = self.own(from);
        for _ in 0..commands {
            match self.next(from, to) {
                Some(next) => from = next,
                None => break,
            }
        }
        from
    }

    /// The data set that is one item further than `from` on the way to `to`.
    fn next(&self, from: Point, to: Point) -> Option<Point> {
        let mut at = self.own(to);
        if at == from {
            return None;
        }
        // The strand by which the way leaves `from`.
        loop {
            if at.strand == from.strand {
                return Some(Point { len: from.len + 1, ..from });
            }
            match self.parent(at) {
                Some(parent) if self.own(parent) == from => return Some(Point { len: 1, ..at }),
                Some(parent) => at = parent,
                None => return None,
            }
        }
    }

    /// The last point on the way to `point` with at most so many bytes.
    pub fn up_to(&self, point: Point, total: u64) -> Point {
        let mut at = self.own(point);
        loop {
            let items = &self.items(at.strand)[..at.len as usize];
            let len = items.partition_point(|item| item.total <= total);
            if len > 0 {
                return Point { len: len as u32, ..at };
            }
            match self.parent(at) {
                Some(parent) => at = parent,
                None => return Point { len: 1, ..at },
            }
        }
    }

    /// When the last item of `point` was accepted.
    pub fn accepted_at(&self, point: Point) -> i64 {
        self.of_last(point, |item| item.at)
    }

    /// When the first item was accepted that goes on from `point`, on any strand.
    pub fn first_after(&self, point: Point) -> Option<i64> {
        let point = self.own(point);
        let here = self.items(point.strand).get(point.len as usize).map(|item| item.at);
        let elsewhere = self.strands.iter().filter_map(|strand| {
            // A strand that was left at `point` without an item in between.
            let parent = strand.parent.map(|parent| self.own(parent))?;
            (parent == point).then(|| strand.items.first().map(|item| item.at)).flatten()
        });
        here.into_iter().chain(elsewhere).min()
    }

    /// When the first item after `point` on the way to `to` was accepted.
    pub fn first_on_the_way(&self, point: Point, to: Point) -> Option<i64> {
        let next = self.next(self.own(point), to)?;
        Some(self.accepted_at(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_holds_what_it_grew_from_and_nothing_else() {
        let mut truth = Truth::default();
        let a = truth.root(10, 0);
        let b = truth.write(a, 5, Change::Key, 1);
        let c = truth.write(b, 7, Change::Key, 2);
        let promoted = truth.branch(b);
        let d = truth.write(promoted, 7, Change::Key, 3);
        let stranger = truth.root(0, 0);
        assert!(truth.holds(c, a) && truth.holds(c, b) && truth.holds(d, b) && truth.holds(promoted, b));
        assert!(truth.same(promoted, b) && !truth.same(d, c));
        assert!(!truth.holds(d, c) && !truth.holds(c, d) && !truth.holds(b, c));
        assert!(!truth.holds(stranger, a) && !truth.holds(c, stranger));
        assert_eq!((truth.common(c, d), truth.common(d, c), truth.common(c, stranger)), (Some(b), Some(b), None));
        assert_eq!((truth.keys(c), truth.total(d)), (12, 12));
        assert_eq!(truth.first_after(b), Some(2));
        assert_eq!(truth.first_on_the_way(b, d), Some(3));
        assert_eq!(truth.further(a, d, 2), d);
        assert_eq!(truth.up_to(d, 5), b);
    }

    #[test]
    fn whoever_writes_where_another_went_on_begins_a_strand() {
        let mut truth = Truth::default();
        let a = truth.root(0, 0);
        let b = truth.write(a, 5, Change::Key, 1);
        let c = truth.write(a, 5, Change::Key, 2);
        assert!(!truth.holds(b, c) && !truth.holds(c, b));
        assert_eq!(truth.common(b, c), Some(a));
    }

    #[test]
    fn pings_are_no_data() {
        let mut truth = Truth::default();
        let a = truth.root(0, 0);
        let b = truth.write(a, 5, Change::Key, 1);
        let ping = truth.write(b, 14, Change::Nothing, 2);
        assert!(!truth.same(ping, b) && truth.same(truth.solid(ping), truth.solid(b)));
        let flushed = truth.write(ping, 18, Change::Flush, 3);
        assert_eq!(truth.keys(flushed), 0);
    }
}
