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

    /// The offset to store, if there is a new one.
    pub(super) fn take(&mut self) -> Option<i64> {
        self.next.take()
    }

    /// Gives back what could not be stored, unless there is a newer one.
    pub(super) fn put_back(&mut self, next: i64) {
        self.next.get_or_insert(next);
    }

    /// The end of the assignment. Returns what is left to store; nothing can be settled from here on.
    pub(super) fn give_up(&mut self) -> Option<i64> {
        self.given_up = true;
        self.handed_out = VecDeque::new();
        self.next.take()
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
    fn what_could_not_be_stored_does_not_replace_what_came_after() {
        let mut offsets = Offsets::default();
        let [a, b] = [0, 1].map(|offset| offsets.hand_out(offset));
        offsets.settle(a).unwrap();
        let first = offsets.take().unwrap();
        offsets.put_back(first);
        assert_eq!(offsets.take(), Some(1));
        offsets.settle(b).unwrap();
        offsets.put_back(first);
        assert_eq!(offsets.take(), Some(2));
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
        GiveUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..3_i64).prop_map(|skipped| Step::HandOut { skipped }),
            8 => any::<usize>().prop_map(Step::Settle),
            3 => Just(Step::Take),
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
            let (mut ever, mut stored) = (0, None);
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
                    Step::Take | Step::GiveUp => {
                        let settled = prefix(&all);
                        let expected = (settled > ever && !given_up).then(|| all[settled - 1].0 + 1);
                        let taken = match step {
                            Step::Take => offsets.take(),
                            _ => offsets.give_up(),
                        };
                        prop_assert_eq!(taken, expected);
                        prop_assert!(taken.is_none() || taken > stored, "it never goes back");
                        stored = taken.or(stored);
                        ever = settled;
                        given_up |= matches!(step, Step::GiveUp);
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
