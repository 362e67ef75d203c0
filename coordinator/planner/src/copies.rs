//! What the verdict needs of every candidate, side by side: one pass over the view, whatever its size.

use std::collections::HashMap;

use urtext_types::ReplicationId;

use crate::{
    chart::{Chart, Place},
    hasher::IdHasher,
    view::{ShardView, Source},
};

/// The candidates of a view, in its order.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) places: Vec<Option<Place>>,
    pub(crate) is_backup: Vec<bool>,
    pub(crate) eligible: Vec<bool>,
    pub(crate) keys: Vec<u64>,
    /// Those without a position.
    pub(crate) unplaced: Vec<usize>,
}

impl Copies {
    /// The copies, placed by numbers of their own, and the histories that have those numbers.
    pub(crate) fn of(view: &ShardView) -> (Self, Vec<ReplicationId>) {
        let len = view.candidates.len();
        let mut copies = Self {
            places: Vec::with_capacity(len),
            is_backup: Vec::with_capacity(len),
            eligible: Vec::with_capacity(len),
            keys: Vec::with_capacity(len),
            unplaced: Vec::new(),
        };
        let mut numbers: HashMap<ReplicationId, usize, IdHasher> = HashMap::default();
        let mut histories: Vec<ReplicationId> = Vec::new();
        // Backups are listed as they were made: most have the history of the one before.
        let mut last = None;
        for (i, candidate) in view.candidates.iter().enumerate() {
            if candidate.position.is_none() {
                copies.unplaced.push(i);
            }
            copies.places.push(candidate.position.map(|position| {
                let (_, history) = last.filter(|&(id, _)| id == position.history).unwrap_or_else(|| {
                    let number = *numbers.entry(position.history).or_insert_with(|| {
                        histories.push(position.history);
                        histories.len() - 1
                    });
                    (position.history, number)
                });
                last = Some((position.history, history));
                Place { history, offset: position.offset }
            }));
            copies.keys.push(candidate.keys);
            copies.is_backup.push(matches!(candidate.source, Source::Backup(_)));
            copies.eligible.push(candidate.is_eligible());
        }
        (copies, histories)
    }

    /// Places the copies in `chart`, which has `numbers` for the histories.
    pub(crate) fn settle(&mut self, chart: &Chart, numbers: &[usize]) {
        for place in self.places.iter_mut().flatten() {
            *place = chart.normalize(Place { history: numbers[place.history], offset: place.offset });
        }
    }

    /// The placed ones, each history together and each from its beginning on; of each its index.
    pub(crate) fn by_history(&self, histories: usize) -> Vec<Vec<(Place, usize)>> {
        let mut by_history = vec![Vec::new(); histories];
        for (i, place) in self.places.iter().enumerate() {
            if let Some(place) = *place {
                by_history[place.history].push((place, i));
            }
        }
        // Mostly in order already: backups are listed as they were made.
        by_history.iter_mut().for_each(|copies| copies.sort_unstable());
        by_history
    }
}
