use std::collections::VecDeque;

/// How far one partition has come, from its assignment to this consumer until that is revoked.
///
/// Kafka keeps one number per partition and group: the offset from which the next owner reads on.
/// So of what was handed out only the *contiguous prefix* of the settled deliveries can be told to
/// the broker: a message settled ahead of an unsettled one is remembered here and nowhere else.
///
/// Deliveries are told apart by their place in the order in which they were handed out, not by
/// their offsets: a compacted or transactional topic skips offsets, and one that was truncated
/// goes back.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// From the first unsettled delivery on.
    handed_out: VecDeque<HandedOut>,
    /// The place of the first of these.
    first: u64,
    /// The offset after the settled prefix, if that has grown since it was last taken.
    next: Option<i64>,
    /// The one that was taken last, until it is known what came of it.
    taken: Option<i64>,
    given_up: bool,
}

#[derive(Debug)]
struct HandedOut {
    offset: i64,
    settled: bool,
}

/// The partition was given up: it is for its next owner to say what becomes of its messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

impl Offsets {
    /// Notes that a message is handed out. Returns its place, to settle it by.
    pub(super) fn hand_out(&mut self, offset: i64) -> u64 {
        self.handed_out.push_back(HandedOut { offset, settled: false });
        self.first + self.handed_out.len() as u64 - 1
    }

    /// Notes that a delivery is settled. `Ok(true)` if the settled prefix has grown by that.
    pub(super) fn settle(&mut self, place: u64) -> Result<bool, GivenUp> {
        if self.given_up {
            return Err(GivenUp);
        }
        // One before the first was settled earlier: saying it again does no harm.
        let Some(index) = place.checked_sub(self.first) else { return Ok(false) };
        if let Some(delivery) = self.handed_out.get_mut(index as usize) {
            delivery.settled = true;
        }
        let mut grown = false;
        while let Some(HandedOut { offset, settled: true }) = self.handed_out.front() {
            self.next = Some(offset + 1);
            self.first += 1;
            self.handed_out.pop_front();
            grown = true;
        }
        Ok(grown)
    }

    /// How many deliveries there are from the first unsettled one to the last handed out: what this
    /// remembers, and what is delivered again if the process dies now.
    pub(super) fn span(&self) -> usize {
        self.handed_out.len()
    }

    /// The offset to commit, if there is a new one. What comes of it is told before the next is taken.
    pub(super) fn take(&mut self) -> Option<i64> {
        let next = self.next.take()?;
        self.taken = Some(next);
        Some(next)
    }

    /// The one that was taken is committed.
    pub(super) fn committed(&mut self) {
        self.taken = None;
    }

    /// It is not, and is there to be taken again, unless there is a newer one. True if one was taken:
    /// it may have been of an earlier assignment, and is none of this one's business then.
    pub(super) fn not_committed(&mut self) -> bool {
        let Some(taken) = self.taken.take() else { return false };
        self.next.get_or_insert(taken);
        true
    }

    /// What is settled and not known to be committed.
    pub(super) fn uncommitted(&self) -> Option<i64> {
        self.next.or(self.taken)
    }

    /// The end of the assignment. Returns what is left to commit, which includes what is on its way and
    /// may not arrive; nothing can be settled from here on.
    pub(super) fn give_up(&mut self) -> Option<i64> {
        let left = self.uncommitted();
        (self.next, self.taken) = (None, None);
        self.given_up = true;
        self.handed_out = VecDeque::new();
        left
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_contiguous_prefix_is_stored() {
        let mut offsets = Offsets::default();
        let [a, b, c] = [10, 11, 12].map(|offset| offsets.hand_out(offset));
        assert_eq!(offsets.settle(b), Ok(false));
        assert_eq!(offsets.settle(c), Ok(false));
        assert_eq!(offsets.take(), None, "10 is not settled");
        assert_eq!(offsets.span(), 3);
        assert_eq!(offsets.settle(a), Ok(true));
        assert_eq!((offsets.take(), offsets.take()), (Some(13), None));
        assert_eq!(offsets.span(), 0);
    }

    #[test]
    fn settled_twice_counts_once() {
        let mut offsets = Offsets::default();
        let [a, b] = [0, 1].map(|offset| offsets.hand_out(offset));
        assert_eq!(offsets.settle(a), Ok(true));
        assert_eq!(offsets.settle(a), Ok(false));
        assert_eq!(offsets.take(), Some(1));
        assert_eq!(offsets.settle(b), Ok(true));
        assert_eq!(offsets.take(), Some(2));
    }

    #[test]
    fn offsets_that_go_back_are_followed() {
        let mut offsets = Offsets::default();
        let [a, b] = [500, 3].map(|offset| offsets.hand_out(offset));
        offsets.settle(a).unwrap();
        offsets.settle(b).unwrap();
        assert_eq!(offsets.take(), Some(4), "the topic was truncated, and read again");
    }

    #[test]
    fn what_is_settled_after_the_end_is_lost() {
        let mut offsets = Offsets::default();
        let [a, b] = [0, 1].map(|offset| offsets.hand_out(offset));
        offsets.settle(a).unwrap();
        assert_eq!(offsets.give_up(), Some(1));
        assert_eq!(offsets.settle(b), Err(GivenUp));
        assert_eq!(offsets.take(), None);
    }

    #[test]
    fn what_could_not_be_committed_does_not_replace_what_came_after() {
        let mut offsets = Offsets::default();
        let [a, b] = [0, 1].map(|offset| offsets.hand_out(offset));
        offsets.settle(a).unwrap();
        assert_eq!(offsets.take(), Some(1));
        assert!(offsets.not_committed());
        assert_eq!(offsets.take(), Some(1));
        offsets.settle(b).unwrap();
        assert!(offsets.not_committed());
        assert_eq!(offsets.take(), Some(2));
        offsets.committed();
        assert_eq!((offsets.not_committed(), offsets.uncommitted()), (false, None));
    }

    #[test]
    fn what_is_on_its_way_at_the_end_is_left_to_commit() {
        let mut offsets = Offsets::default();
        let a = offsets.hand_out(0);
        offsets.settle(a).unwrap();
        assert_eq!(offsets.take(), Some(1));
        assert_eq!(offsets.give_up(), Some(1), "nobody knows whether it arrives");
        assert!(!offsets.not_committed());
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many offsets are skipped before the next message.
        HandOut {
            skipped: i64,
        },
        /// One of those handed out so far, modulo their number.
        Settle(usize),
        Take,
        /// What came of the one that was taken.
        Told {
            committed: bool,
        },
        GiveUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..3_i64).prop_map(|skipped| Step::HandOut { skipped }),
            8 => any::<usize>().prop_map(Step::Settle),
            3 => Just(Step::Take),
            3 => any::<bool>().prop_map(|committed| Step::Told { committed }),
            1 => Just(Step::GiveUp),
        ]
    }

    proptest! {
        /// Against a list of everything that was ever handed out, gone through from the start each
        /// time.
        #[test]
        fn as_a_list_of_all_deliveries_would_have_it(steps in prop::collection::vec(step(), 0..200)) {
            let mut offsets = Offsets::default();
            let mut all: Vec<(i64, bool)> = Vec::new();
            let (mut offset, mut given_up) = (0, false);
            // How much of the prefix was taken, and how much of it is known to be committed.
            let (mut taken, mut committed) = (0, 0);
            let prefix = |all: &[(i64, bool)]| all.iter().take_while(|one| one.1).count();
            for step in steps {
                match step {
                    Step::HandOut { skipped } if !given_up => {
                        offset += skipped + 1;
                        prop_assert_eq!(offsets.hand_out(offset), all.len() as u64);
                        all.push((offset, false));
                    }
                    Step::Settle(which) if !all.is_empty() => {
                        let which = which % all.len();
                        if given_up {
                            prop_assert_eq!(offsets.settle(which as u64), Err(GivenUp));
                        } else {
                            let before = prefix(&all);
                            all[which].1 = true;
                            let grown = prefix(&all) > before;
                            prop_assert_eq!(offsets.settle(which as u64), Ok(grown));
                        }
                    }
                    Step::Take => {
                        let settled = prefix(&all);
                        let expected = (settled > taken && !given_up).then(|| all[settled - 1].0 + 1);
                        prop_assert_eq!(offsets.take(), expected);
                        taken = taken.max(settled);
                    }
                    Step::Told { committed: true } => {
                        offsets.committed();
                        committed = taken;
                    }
                    Step::Told { committed: false } => {
                        let on_its_way = taken > committed && !given_up;
                        prop_assert_eq!(offsets.not_committed(), on_its_way);
                        taken = committed;
                    }
                    Step::GiveUp => {
                        let settled = prefix(&all);
                        let expected =
                            (settled > committed && !given_up).then(|| all[settled - 1].0 + 1);
                        prop_assert_eq!(offsets.give_up(), expected);
                        given_up = true;
                    }
                    _ => {}
                }
                if !given_up {
                    prop_assert_eq!(offsets.span(), all.len() - prefix(&all));
                }
            }
        }
    }
}
