use std::collections::{BTreeSet, HashMap};

use tokio::{task, time::Instant};

use super::{Entry, Id, Stage};

/// Who is where, so that nobody has to look through all that is in hand to find out.
///
/// An entry is on the list of its [stage](Stage), and on no other.
#[derive(Default)]
pub(super) struct Lists {
    /// Who may be started, by their turns: who was never held, and who was.
    fresh: BTreeSet<(u64, Id)>,
    held: BTreeSet<(u64, Id)>,
    /// Who waits until when.
    waiting: BTreeSet<(Instant, Id)>,
    /// Whose handler runs in which task.
    running: HashMap<task::Id, Id>,
    /// Those of them that are probes, and since when.
    probes: BTreeSet<(Instant, Id)>,
}

impl Lists {
    pub(super) fn enter<D>(&mut self, id: Id, entry: &Entry<D>) {
        match entry.stage {
            Stage::Ready { turn } => {
                self.ready(entry.held).insert((turn, id));
            }
            Stage::Running { task, probe } => {
                self.running.insert(task, id);
                self.probes.extend(probe.map(|since| (since, id)));
            }
            Stage::Waiting { until } | Stage::SettlingLater { until, .. } => {
                self.waiting.insert((until, id));
            }
            Stage::Behind | Stage::Settling { .. } => {}
        }
    }

    pub(super) fn strike<D>(&mut self, id: Id, entry: &Entry<D>) {
        match entry.stage {
            Stage::Ready { turn } => {
                self.ready(entry.held).remove(&(turn, id));
            }
            Stage::Running { task, probe } => {
                self.running.remove(&task);
                if let Some(since) = probe {
                    self.probes.remove(&(since, id));
                }
            }
            Stage::Waiting { until } | Stage::SettlingLater { until, .. } => {
                self.waiting.remove(&(until, id));
            }
            Stage::Behind | Stage::Settling { .. } => {}
        }
    }

    fn ready(&mut self, held: bool) -> &mut BTreeSet<(u64, Id)> {
        if held { &mut self.held } else { &mut self.fresh }
    }

    /// Whose turn it is.
    pub(super) fn next_ready(&self) -> Option<Id> {
        let (fresh, held) = (self.fresh.first(), self.held.first());
        fresh.into_iter().chain(held).min().map(|(_, id)| *id)
    }

    /// The first of those that were never held.
    pub(super) fn next_fresh(&self) -> Option<Id> {
        self.fresh.first().map(|(_, id)| *id)
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.fresh.is_empty() || !self.held.is_empty()
    }

    /// Who has waited, or will have, before all others, and until when.
    pub(super) fn next_waiting(&self) -> Option<(Instant, Id)> {
        self.waiting.first().copied()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = Id> {
        self.waiting.iter().map(|(_, id)| *id)
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn in_task(&self, task: task::Id) -> Option<Id> {
        self.running.get(&task).copied()
    }

    /// Probes that were started after `since`. There are never many: that is what a probe is.
    pub(super) fn probes_since(&self, since: Instant) -> impl Iterator<Item = Id> {
        let probes = self.probes.iter().rev().take_while(move |(started, _)| *started > since);
        probes.map(|(_, id)| *id)
    }
}

#[cfg(test)]
impl Lists {
    pub(super) fn are_empty(&self) -> bool {
        !self.has_ready()
            && self.waiting.is_empty()
            && self.running.is_empty()
            && self.probes.is_empty()
    }
}
