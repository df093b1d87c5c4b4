use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
};

use tokio::{task, time::Instant};

use super::{Delivery, Settle};

mod lists;
#[cfg(test)]
mod model;

use lists::Lists;

/// Names one delivery in hand. Never used twice, so that what comes late finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u64);

/// The deliveries in hand: who is next, who waits for what, and who waits behind whom.
///
/// Pure bookkeeping: it knows no broker, no clock and no handler. What happens to one of them costs
/// no more where there are ten thousand others; a delivery more or less is a few steps in a tree.
///
/// ```text
///   take -> ready <---------------- waiting (again)       hold: to the end of the row,
///             |  ^                     ^                        its key stays taken
///           start| hold                |
///             v  |                     |
///          running --------------------+------> settling ----> remove
///                                                 |   ^
///                                                 v   |
///                                            settling later
/// ```
pub(super) struct Hand<D> {
    entries: BTreeMap<Id, Entry<D>>,
    lists: Lists,
    next_id: u64,
    next_turn: u64,
    /// Who waits behind the one that has its key, in the order of arrival; an entry for each key
    /// that is taken.
    followers: HashMap<u64, BTreeSet<Id>>,
    hasher: RandomState,
}

/// A delivery in hand.
pub(super) struct Entry<D> {
    /// `None` while it is being settled, which takes it along.
    pub(super) delivery: Option<D>,
    stage: Stage,
    /// The broker's count, as it was delivered.
    attempt: Option<u32>,
    /// Tries in hand that ended and count.
    tries: u32,
    /// It was tried while the dependency was down.
    held: bool,
    /// Its key's hash. Two keys of one hash are one to us, and a little slower, no less ordered.
    key: Option<u64>,
    /// When the broker was last told that it is being worked on, and whether it is being told now.
    pub(super) extended: Instant,
    pub(super) extending: bool,
}

/// What a delivery in hand is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// It can be started, when it is its turn.
    Ready { turn: u64 },
    /// It waits behind another one of its key.
    Behind,
    /// Its handler runs in this task; where it is a probe, since then.
    Running { task: task::Id, probe: Option<Instant> },
    /// It is tried again then.
    Waiting { until: Instant },
    /// The broker is being told, after so many times in vain.
    Settling { settle: Settle, failures: u32 },
    /// The broker is told again then.
    SettlingLater { settle: Settle, failures: u32, until: Instant },
}

impl<D> Entry<D> {
    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether it was tried while the dependency was down.
    pub(super) fn was_held(&self) -> bool {
        self.held
    }

    /// How often it has been tried, the present or next time included.
    pub(super) fn attempts(&self) -> u32 {
        self.attempt.unwrap_or(1).max(1).saturating_add(self.tries)
    }

    /// Whether it is tried again here, wherever the broker could: others wait behind it, or would, or
    /// nobody but us counts how often it was tried.
    pub(super) fn stays_in_hand(&self) -> bool {
        self.key.is_some() || self.attempt.is_none()
    }
}

impl<D: Delivery> Hand<D> {
    pub(super) fn new() -> Self {
        Hand {
            entries: BTreeMap::new(),
            lists: Lists::default(),
            next_id: 0,
            next_turn: 0,
            followers: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// How many are in hand.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many are being handled.
    pub(super) fn running(&self) -> usize {
        self.lists.running()
    }

    /// How many probes are being handled that were started after `since`.
    pub(super) fn probes_since(&self, since: Instant) -> usize {
        self.lists.probes_since(since).count()
    }

    /// Whether there is one that may be started, or is a probe that was started after `since`, and that
    /// was never held.
    pub(super) fn has_untried(&self, since: Instant) -> bool {
        let mut probes = self.lists.probes_since(since).filter_map(|id| self.entries.get(&id));
        self.lists.next_fresh().is_some() || probes.any(|probe| !probe.held)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Entry<D>> {
        self.entries.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Entry<D>> {
        self.entries.get_mut(&id)
    }

    /// All that is in hand, in the order of arrival.
    pub(super) fn ids(&self) -> Vec<Id> {
        self.entries.keys().copied().collect()
    }

    /// Whose handler runs in this task.
    pub(super) fn in_task(&self, task: task::Id) -> Option<Id> {
        self.lists.in_task(task)
    }

    /// A delivery has come. Where order is asked for it stands behind those of its key.
    pub(super) fn take(&mut self, delivery: D, ordered: bool, now: Instant) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        let key = delivery.ordering_key().filter(|_| ordered).map(|key| self.hasher.hash_one(key));
        let stage = if let Some(followers) = key.and_then(|key| self.followers.get_mut(&key)) {
            followers.insert(id);
            Stage::Behind
        } else {
            self.followers.extend(key.map(|key| (key, BTreeSet::new())));
            self.last_in_the_row()
        };
        let attempt = delivery.attempt();
        let entry = Entry {
            delivery: Some(delivery),
            stage,
            attempt,
            tries: 0,
            held: false,
            key,
            extended: now,
            extending: false,
        };
        self.lists.enter(id, &entry);
        self.entries.insert(id, entry);
        id
    }

    /// The next one that may be started, until that or something else is done with it.
    pub(super) fn next_ready(&self) -> Option<Id> {
        self.lists.next_ready()
    }

    /// The next one for a probe: one that was never held, if there is any. Those that were may be
    /// what fails.
    pub(super) fn next_probe(&self) -> Option<Id> {
        self.lists.next_fresh().or_else(|| self.lists.next_ready())
    }

    pub(super) fn has_ready(&self) -> bool {
        self.lists.has_ready()
    }

    pub(super) fn start(&mut self, id: Id, task: task::Id, probe: Option<Instant>) {
        self.change(id, |entry| entry.stage = Stage::Running { task, probe });
    }

    /// Its try does not count: behind all others, where the next probe is somebody else.
    pub(super) fn hold(&mut self, id: Id) {
        let stage = self.last_in_the_row();
        self.change(id, |entry| (entry.stage, entry.held) = (stage, true));
    }

    /// It has waited long enough, and may be started.
    pub(super) fn wait_no_longer(&mut self, id: Id) {
        let stage = self.last_in_the_row();
        self.change(id, |entry| entry.stage = stage);
    }

    /// It is tried again at this time, and this try has counted. Its key stays taken.
    pub(super) fn try_again_at(&mut self, id: Id, until: Instant) {
        self.change(id, |entry| {
            entry.tries = entry.tries.saturating_add(1);
            entry.stage = Stage::Waiting { until };
        });
    }

    /// The broker is told what became of it; those behind it may go on.
    pub(super) fn settle(&mut self, id: Id, settle: Settle, failures: u32) -> Option<D> {
        self.change(id, |entry| entry.stage = Stage::Settling { settle, failures });
        self.free_key(id);
        self.entries.get_mut(&id)?.delivery.take()
    }

    /// The broker did not hear it; it is told again at this time.
    pub(super) fn settle_again_at(
        &mut self,
        id: Id,
        delivery: D,
        settle: Settle,
        failures: u32,
        until: Instant,
    ) {
        self.change(id, |entry| {
            entry.delivery = Some(delivery);
            entry.stage = Stage::SettlingLater { settle, failures, until };
        });
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lists.next_waiting().map(|(until, _)| until)
    }

    /// The next one that has waited long enough, until something is done with it.
    pub(super) fn due(&self, now: Instant) -> Option<Id> {
        self.lists.next_waiting().filter(|(until, _)| *until <= now).map(|(_, id)| id)
    }

    /// Who waits to be tried again is ready, whenever that would have been.
    pub(super) fn no_more_waiting(&mut self) {
        for id in self.lists.waiting().collect::<Vec<_>>() {
            if matches!(self.get(id), Some(Entry { stage: Stage::Waiting { .. }, .. })) {
                self.wait_no_longer(id);
            }
        }
    }

    /// It is in hand no more.
    pub(super) fn remove(&mut self, id: Id) {
        self.free_key(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.lists.strike(id, &entry);
        }
    }

    fn last_in_the_row(&mut self) -> Stage {
        let turn = self.next_turn;
        self.next_turn += 1;
        Stage::Ready { turn }
    }

    /// Whatever changes an entry's place in the lists.
    fn change(&mut self, id: Id, change: impl FnOnce(&mut Entry<D>)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.lists.strike(id, entry);
        change(entry);
        self.lists.enter(id, entry);
    }

    /// The next one of the key may be started.
    fn free_key(&mut self, id: Id) {
        let Some(key) = self.entries.get_mut(&id).and_then(|entry| entry.key.take()) else {
            return;
        };
        let Some(followers) = self.followers.get_mut(&key) else { return };
        // One that waits behind another has no right to the key.
        if followers.remove(&id) {
            return;
        }
        match followers.pop_first() {
            Some(next) => self.wait_no_longer(next),
            None => {
                self.followers.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consumer::SettleError;

    pub(super) const SECOND: Duration = Duration::from_secs(1);

    pub(super) struct Letter {
        key: Option<u8>,
        attempt: Option<u32>,
    }

    impl Delivery for Letter {
        type Payload = ();

        fn payload(&self) {}

        fn attempt(&self) -> Option<u32> {
            self.attempt
        }

        fn ordering_key(&self) -> Option<&[u8]> {
            self.key.as_ref().map(std::slice::from_ref)
        }

        async fn settle(&mut self, _: &Settle) -> Result<(), SettleError> {
            Ok(())
        }
    }

    pub(super) fn letter(key: u8) -> Letter {
        Letter { key: Some(key), attempt: None }
    }

    /// Tasks that never run; all that is known of them is their names.
    pub(super) struct Tasks(tokio::runtime::Runtime);

    impl Tasks {
        pub(super) fn new() -> Self {
            Tasks(tokio::runtime::Builder::new_current_thread().build().unwrap())
        }

        pub(super) fn one(&self) -> task::Id {
            self.0.spawn(async {}).id()
        }
    }

    pub(super) fn start_all(hand: &mut Hand<Letter>, tasks: &Tasks) -> Vec<Id> {
        let mut started = Vec::new();
        while let Some(id) = hand.next_ready() {
            hand.start(id, tasks.one(), None);
            started.push(id);
        }
        started
    }

    #[test]
    fn of_one_key_one_runs_and_the_others_wait_behind_it() {
        let (mut hand, tasks, now) = (Hand::new(), Tasks::new(), Instant::now());
        let ids = [1, 2, 1, 1, 2].map(|key| hand.take(letter(key), true, now));
        assert_eq!(start_all(&mut hand, &tasks), [ids[0], ids[1]]);
        assert_eq!(hand.running(), 2);
        // Tried again later: its key stays taken, the other key goes on.
        hand.try_again_at(ids[0], now + SECOND);
        hand.settle(ids[1], Settle::Ack, 0);
        hand.remove(ids[1]);
        assert_eq!(start_all(&mut hand, &tasks), [ids[4]]);
        assert_eq!(hand.due(now), None);
        assert_eq!(hand.due(now + SECOND), Some(ids[0]));
        hand.wait_no_longer(ids[0]);
        assert_eq!(start_all(&mut hand, &tasks), [ids[0]]);
        assert_eq!(hand.get_mut(ids[0]).unwrap().attempts(), 2);
        hand.settle(ids[0], Settle::Ack, 0);
        assert_eq!(start_all(&mut hand, &tasks), [ids[2]]);
    }

    #[test]
    fn without_order_keys_mean_nothing() {
        let (mut hand, now) = (Hand::new(), Instant::now());
        let ids = [1, 1, 1].map(|key| hand.take(letter(key), false, now));
        assert_eq!(start_all(&mut hand, &Tasks::new()), ids);
    }

    #[test]
    fn one_that_is_held_goes_behind_the_others() {
        let (mut hand, tasks) = (Hand::new(), Tasks::new());
        let now = Instant::now();
        let ids = [1, 2, 3].map(|key| hand.take(letter(key), false, now));
        let first = hand.next_ready().unwrap();
        hand.start(first, tasks.one(), Some(now));
        assert_eq!(hand.probes_since(now - SECOND), 1);
        assert_eq!(hand.probes_since(now), 0);
        hand.hold(first);
        assert_eq!(start_all(&mut hand, &tasks), [ids[1], ids[2], ids[0]]);
    }

    #[test]
    fn the_brokers_count_and_the_tries_in_hand_add_up() {
        let (mut hand, now) = (Hand::new(), Instant::now());
        let id = hand.take(Letter { key: None, attempt: Some(3) }, true, now);
        assert_eq!(hand.get_mut(id).unwrap().attempts(), 3);
        hand.try_again_at(id, now);
        assert_eq!(hand.get_mut(id).unwrap().attempts(), 4);
        hand.hold(id);
        assert_eq!(hand.get_mut(id).unwrap().attempts(), 4, "holding counts for nothing");
    }
}
