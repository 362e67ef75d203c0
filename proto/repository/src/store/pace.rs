//! Leaving room on a link: a rate that transfers share, and a store that keeps to it.
//!
//! Whole objects are granted, one after the other, in the order in which they were asked for: an object goes at the
//! speed of the link, and the next one waits until the rate has caught up. Over some objects (16 MiB each) the rate
//! holds; it is not a shaper of single packets.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::{
    select,
    sync::{Mutex, watch},
    time::{Instant, sleep},
};
use urtext_types::ByteRate;

use super::{ObjectInfo, PutOutcome, Store, StoreError};
use crate::{ObjectName, ObjectPrefix};

/// No upload is to be slower. A part (16 MiB) and two before it must be on their way within the minute after which a
/// capture gives up, so that its server is not kept waiting.
pub const SLOWEST_UPLOAD: ByteRate = match ByteRate::new(1024 * 1024) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// A rate that several transfers share, and that may change under them.
#[derive(Debug)]
pub struct Pace {
    /// `None`: as fast as it goes.
    rate: watch::Sender<Option<ByteRate>>,
    /// Asked for in turn: tokio's lock is fair.
    turn: Mutex<Debt>,
}

/// What was granted and has not been paid with time yet.
#[derive(Debug, Clone, Copy)]
struct Debt {
    bytes: u64,
    /// When it was that much.
    since: Instant,
}

impl Debt {
    /// What is left of it after a time at a rate.
    fn after(self, rate: Option<ByteRate>, now: Instant) -> Self {
        let paid = rate.map_or(u64::MAX, |rate| ((now - self.since).as_secs_f64() * rate.get() as f64) as u64);
        Self { bytes: self.bytes.saturating_sub(paid), since: now }
    }
}

impl Pace {
    /// Nothing is owed yet: the first object goes at once.
    pub fn new(rate: Option<ByteRate>) -> Self {
        Self { rate: watch::Sender::new(rate), turn: Mutex::new(Debt { bytes: 0, since: Instant::now() }) }
    }

    /// From now on, also for who waits.
    pub fn set(&self, rate: Option<ByteRate>) {
        self.rate.send_if_modified(|known| std::mem::replace(known, rate) != rate);
    }

    /// Waits until what was granted before is paid, then grants `bytes`.
    ///
    /// # Cancel safety
    /// Cancel safe: what is dropped while it waits was not granted.
    pub async fn take(&self, bytes: u64) {
        let mut rates = self.rate.subscribe();
        let mut debt = self.turn.lock().await;
        loop {
            let rate = *rates.borrow_and_update();
            *debt = debt.after(rate, Instant::now());
            let wait = rate.map_or(Duration::ZERO, |rate| rate.time_of(debt.bytes));
            select! {
                () = sleep(wait) => {
                    *debt = Debt { bytes, since: Instant::now() };
                    return;
                }
                // Never closed: `self` holds the sender.
                _ = rates.changed() => *debt = debt.after(rate, Instant::now()),
            }
        }
    }
}

/// A store that is written to and read from at a pace.
#[derive(Clone)]
pub struct PacedStore {
    store: Arc<dyn Store>,
    /// All of them must agree.
    puts: Vec<Arc<Pace>>,
    gets: Vec<Arc<Pace>>,
}

impl PacedStore {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, puts: Vec::new(), gets: Vec::new() }
    }

    /// What is put waits for this pace as well.
    #[must_use]
    pub fn putting_at(mut self, pace: Arc<Pace>) -> Self {
        self.puts.push(pace);
        self
    }

    /// What is read waits for this pace as well.
    #[must_use]
    pub fn reading_at(mut self, pace: Arc<Pace>) -> Self {
        self.gets.push(pace);
        self
    }
}

#[async_trait]
impl Store for PacedStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        for pace in &self.puts {
            pace.take(bytes.len() as u64).await;
        }
        self.store.put_new(name, bytes).await
    }

    /// How large an object is, is known when it is here: the next one waits for it.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let bytes = self.store.get(name).await?;
        for pace in &self.gets {
            pace.take(bytes.len() as u64).await;
        }
        Ok(bytes)
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        self.store.list(prefix)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{spawn, task::JoinSet, time::advance};

    use super::*;
    use crate::testing::MemoryStore;

    const MIB: u64 = 1024 * 1024;

    fn rate(mib: u64) -> Option<ByteRate> {
        ByteRate::new(mib * MIB)
    }

    #[tokio::test(start_paused = true)]
    async fn over_some_objects_the_rate_holds_however_many_share_it() {
        let pace = Arc::new(Pace::new(rate(2)));
        let began = Instant::now();
        let mut takers = JoinSet::new();
        for _ in 0..4 {
            let pace = Arc::clone(&pace);
            takers.spawn(async move {
                for _ in 0..5 {
                    pace.take(16 * MIB).await;
                }
            });
        }
        while takers.join_next().await.is_some() {}
        // Twenty objects of 8 s each, but for the last, which only the next one would wait for.
        let took = began.elapsed();
        assert!((Duration::from_secs(152)..Duration::from_millis(152_100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_changes_holds_at_once_also_for_who_waits() {
        let pace = Arc::new(Pace::new(rate(1)));
        pace.take(10 * MIB).await;
        let began = Instant::now();
        let waiting = spawn({
            let pace = Arc::clone(&pace);
            async move { pace.take(1).await }
        });
        tokio::task::yield_now().await;
        // Four of the ten are paid at one a second, the rest at three.
        advance(Duration::from_secs(4)).await;
        pace.set(rate(3));
        waiting.await.expect("granted");
        let took = began.elapsed();
        assert!((Duration::from_millis(5_990)..Duration::from_millis(6_010)).contains(&took), "{took:?}");

        pace.take(1000 * MIB).await;
        pace.set(None);
        let began = Instant::now();
        pace.take(1000 * MIB).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "without a rate nothing is owed");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_asked_for_pays_as_well() {
        let pace = Pace::new(rate(1));
        pace.take(10 * MIB).await;
        advance(Duration::from_secs(9)).await;
        let began = Instant::now();
        pace.take(10 * MIB).await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_was_granted_nothing() {
        let pace = Pace::new(rate(1));
        pace.take(10 * MIB).await;
        let gave_up = tokio::time::timeout(Duration::from_secs(3), pace.take(500 * MIB)).await;
        gave_up.expect_err("it waits for ten seconds");
        let began = Instant::now();
        pace.take(1).await;
        assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_written_to_at_the_slower_of_two_paces_and_read_at_its_own() {
        let memory = Arc::new(MemoryStore::default());
        let store = PacedStore::new(memory)
            .putting_at(Arc::new(Pace::new(rate(4))))
            .putting_at(Arc::new(Pace::new(rate(1))))
            .reading_at(Arc::new(Pace::new(None)));
        let names: Vec<ObjectName> =
            (0..3).map(|number| format!("backups/orders/0/x/{number}").parse().expect("a name")).collect();
        let began = Instant::now();
        for name in &names {
            store.put_new(name, vec![7; 2 * MIB as usize].into()).await.expect("put");
        }
        // The second and the third wait for the one before; the time that the other pace took counts.
        assert_eq!(began.elapsed(), Duration::from_secs(4));
        let began = Instant::now();
        for name in &names {
            assert_eq!(store.get(name).await.expect("there").len() as u64, 2 * MIB);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
