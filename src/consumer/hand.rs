use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use tokio::{task, time::Instant};

use super::{Delivery, Settle};

/// Names one delivery in hand. Never used twice, so that what comes late finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u64);

/// The deliveries in hand: who is next, who waits for what, and who waits behind whom.
///
/// Pure bookkeeping: it knows no broker, no clock and no handler.
///
/// ```text
///   take -> ready <---------------- wait_until (again)        hold: to the end of the row,
///             |  ^                       |                          its key stays taken
///           start| hold                  |
///             v  |                       |
///          running ----------------------+------> settling ----> remove
///                                                   |   ^
///                                                   v   |
///                                          wait_until (settle again)
/// ```
pub(super) struct Hand<D> {
    entries: HashMap<Id, Entry<D>>,
    next_id: u64,
    /// Who may be started, the next one first. Of one key never more than one.
    ready: VecDeque<Id>,
    /// Who waits until when.
    waiting: BTreeSet<(Instant, Id)>,
    /// Who waits behind the one that has its key; an entry for each key that is taken.
    followers: HashMap<u64, VecDeque<Id>>,
    running: usize,
    hasher: RandomState,
}

/// A delivery in hand.
pub(super) struct Entry<D> {
    /// `None` while it is being settled, which takes it along.
    pub(super) delivery: Option<D>,
    pub(super) stage: Stage,
    /// The broker's count, as it was delivered.
    attempt: Option<u32>,
    /// Tries in hand that ended and count.
    tries: u32,
    /// Its key's hash. Two keys of one hash are one to us, and a little slower, no less ordered.
    key: Option<u64>,
    /// When the broker last heard that it is being worked on.
    pub(super) extended: Instant,
}

/// What a delivery in hand is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// It can be started, or waits behind another one of its key.
    Ready,
    /// Its handler runs in this task, since then.
    Running { task: task::Id, probe: Option<Instant> },
    /// It is tried again later.
    Waiting,
    /// The broker is being told, for the so manieth time.
    Settling { settle: Settle, failures: u32 },
    /// The broker is told again later.
    SettlingLater { settle: Settle, failures: u32 },
}

impl<D> Entry<D> {
    /// How often it has been tried, the present or next time included.
    pub(super) fn attempts(&self) -> u32 {
        self.attempt.unwrap_or(1).max(1).saturating_add(self.tries)
    }

    /// Whether others wait behind it, or would.
    pub(super) fn is_ordered(&self) -> bool {
        self.key.is_some()
    }
}

impl<D: Delivery> Hand<D> {
    pub(super) fn new() -> Self {
        Hand {
            entries: HashMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            followers: HashMap::new(),
            running: 0,
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
        self.running
    }

    /// How many probes are being handled that were started after `since`.
    pub(super) fn probes_since(&self, since: Instant) -> usize {
        let young = |entry: &&Entry<D>| match entry.stage {
            Stage::Running { probe: Some(started), .. } => started > since,
            _ => false,
        };
        self.entries.values().filter(young).count()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Entry<D>> {
        self.entries.get_mut(&id)
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        let mut ids: Vec<Id> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Whose handler ran in this task.
    pub(super) fn find_task(&self, wanted: task::Id) -> Option<Id> {
        let runs =
            |entry: &Entry<D>| matches!(entry.stage, Stage::Running { task, .. } if task == wanted);
        self.entries.iter().find_map(|(id, entry)| runs(entry).then_some(*id))
    }

    /// A delivery has come. Where order is asked for it stands behind those of its key.
    pub(super) fn take(&mut self, delivery: D, ordered: bool, now: Instant) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        let key = delivery.ordering_key().filter(|_| ordered).map(|key| self.hasher.hash_one(key));
        match key.and_then(|key| self.followers.get_mut(&key)) {
            Some(followers) => followers.push_back(id),
            None => {
                if let Some(key) = key {
                    self.followers.insert(key, VecDeque::new());
                }
                self.ready.push_back(id);
            }
        }
        let attempt = delivery.attempt();
        let entry = Entry {
            delivery: Some(delivery),
            stage: Stage::Ready,
            attempt,
            tries: 0,
            key,
            extended: now,
        };
        self.entries.insert(id, entry);
        id
    }

    /// The next one that may be started. The caller starts it, settles it or removes it.
    pub(super) fn next_ready(&mut self) -> Option<Id> {
        self.ready.pop_front()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn start(&mut self, id: Id, task: task::Id, probe: Option<Instant>) {
        self.set_stage(id, Stage::Running { task, probe });
    }

    /// It was not its turn after all, or its try does not count: behind all others, where the next
    /// probe is somebody else.
    pub(super) fn hold(&mut self, id: Id) {
        self.set_stage(id, Stage::Ready);
        self.ready.push_back(id);
    }

    /// It is tried again at this time, and this try has counted. Its key stays taken.
    pub(super) fn try_again_at(&mut self, id: Id, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.tries = entry.tries.saturating_add(1);
        }
        self.set_stage(id, Stage::Waiting);
        self.waiting.insert((at, id));
    }

    /// The broker is told what became of it; those behind it may go on.
    pub(super) fn settle(&mut self, id: Id, settle: Settle, failures: u32) -> Option<D> {
        self.set_stage(id, Stage::Settling { settle, failures });
        self.free_key(id);
        self.entries.get_mut(&id)?.delivery.take()
    }

    /// The broker did not hear it; it is told again at this time.
    pub(super) fn settle_again_at(&mut self, id: Id, delivery: D, failures: u32, at: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.delivery = Some(delivery);
        if let Stage::Settling { settle, .. } = &entry.stage {
            entry.stage = Stage::SettlingLater { settle: settle.clone(), failures };
            self.waiting.insert((at, id));
        }
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// The next one that has waited long enough.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Id> {
        let (at, id) = *self.waiting.first()?;
        (at <= now).then(|| {
            self.waiting.pop_first();
            id
        })
    }

    /// It is in hand no more.
    pub(super) fn remove(&mut self, id: Id) {
        self.free_key(id);
        let Some(entry) = self.entries.remove(&id) else { return };
        match entry.stage {
            Stage::Ready => self.ready.retain(|other| *other != id),
            Stage::Waiting | Stage::SettlingLater { .. } => {
                self.waiting.retain(|(_, other)| *other != id);
            }
            Stage::Running { .. } => self.running -= 1,
            Stage::Settling { .. } => {}
        }
    }

    fn set_stage(&mut self, id: Id, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = matches!(entry.stage, Stage::Running { .. });
        let after = matches!(stage, Stage::Running { .. });
        entry.stage = stage;
        self.running = self.running + usize::from(after) - usize::from(before);
    }

    /// The next one of the key may be started.
    fn free_key(&mut self, id: Id) {
        let Some(key) = self.entries.get_mut(&id).and_then(|entry| entry.key.take()) else {
            return;
        };
        let Some(followers) = self.followers.get_mut(&key) else { return };
        // One that waits behind another has no right to the key.
        if let Some(place) = followers.iter().position(|other| *other == id) {
            followers.remove(place);
            return;
        }
        match followers.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => {
                self.followers.remove(&key);
            }
        }
    }
}
