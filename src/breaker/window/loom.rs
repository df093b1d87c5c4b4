//! Models of the windows, each explored by loom in every order of its threads' steps: nothing is
//! lost, nothing is invented, and an older generation changes nothing.
//!
//! Built with `--cfg buttress_loom`. The windows are as small as the property allows, because the
//! orders multiply with every access.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use ::loom::sync::Arc;

use super::{BUCKETS, CountWindow, Counts, Limit, TimeWindow};
use crate::{
    clock::Tick,
    sync::{Two, model_of_two},
};

// ---- The last N calls ----------------------------------------------------------------------------

#[derive(Clone, Copy)]
enum Call {
    Good,
    Bad,
}
use Call::{Bad, Good};

/// What two threads record at the same time, and what one records before and after that.
struct Calls {
    size: u32,
    limit: Limit,
    before: &'static [Call],
    meanwhile: [&'static [Call]; 2],
    after: &'static [Call],
}

/// Whether a limit was reached, and bad and all calls in the end.
type Outcome = (bool, u32, u32);

/// The window written to be obvious, for one thread.
#[derive(Clone)]
struct Reference<'a> {
    calls: &'a Calls,
    window: VecDeque<Call>,
    tripped: bool,
}

impl Reference<'_> {
    fn record(&mut self, call: Call) {
        self.window.push_back(call);
        if self.window.len() > self.calls.size as usize {
            self.window.pop_front();
        }
        self.tripped |= matches!(call, Bad) && self.calls.limit.is_reached_by(self.counts());
    }

    fn counts(&self) -> Counts {
        let bad = self.window.iter().filter(|call| matches!(call, Bad)).count();
        Counts { bad: bad as u32, calls: self.window.len() as u32 }
    }

    /// Adds the outcomes of all the orders in which the rest can be recorded.
    fn explore(mut self, rest: [&[Call]; 2], outcomes: &mut BTreeSet<Outcome>) {
        for thread in 0..2 {
            if let [call, tail @ ..] = rest[thread] {
                let mut next = self.clone();
                next.record(*call);
                let mut rest = rest;
                rest[thread] = tail;
                next.explore(rest, outcomes);
            }
        }
        if rest.iter().all(|rest| rest.is_empty()) {
            self.calls.after.iter().for_each(|call| self.record(*call));
            let counts = self.counts();
            outcomes.insert((self.tripped, counts.bad, counts.calls));
        }
    }
}

impl Calls {
    /// What the obvious window comes to, in any order of whole calls.
    fn outcomes(&self) -> BTreeSet<Outcome> {
        let mut outcomes = BTreeSet::new();
        let mut start = Reference { calls: self, window: VecDeque::new(), tripped: false };
        self.before.iter().for_each(|call| start.record(*call));
        assert!(!start.tripped, "a window that trips is emptied next");
        start.explore(self.meanwhile, &mut outcomes);
        outcomes
    }

    /// Whatever the threads do to each other: what the window counts in the end, and whether
    /// anybody was told that the limit is reached, is what some order of whole calls comes to.
    fn come_to_what_some_order_comes_to(self) {
        let outcomes = self.outcomes();
        model_of_two(move |two| {
            let window = Arc::new(CountWindow::new(self.size, self.limit, 0));
            record(&window, self.before);
            let [first, second] = self.meanwhile.map(|calls| {
                let window = Arc::clone(&window);
                move || record(&window, calls)
            });
            let (first, second) = two.run(first, second);
            let mut tripped = first | second;
            tripped |= record(&window, self.after);
            let counts = window.counts(0);
            let outcome = (tripped, counts.bad, counts.calls);
            assert!(outcomes.contains(&outcome), "{outcome:?} is not one of {outcomes:?}");
        });
    }
}

fn record(window: &CountWindow, calls: &[Call]) -> bool {
    let mut tripped = false;
    for call in calls {
        match call {
            Good => window.good(0),
            Bad => tripped |= window.bad(0).is_some(),
        }
    }
    tripped
}

/// `part` bad ones of a full window.
fn limit(part: u32, whole: u32) -> Limit {
    Limit { ratio: f64::from(part) / f64::from(whole), min_calls: whole }
}

#[test]
fn two_failures_are_both_counted() {
    let calls =
        Calls { size: 4, limit: limit(4, 4), before: &[], meanwhile: [&[Bad], &[Bad]], after: &[] };
    assert_eq!(calls.outcomes(), BTreeSet::from([(false, 2, 2)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn a_failure_and_a_success_are_both_counted() {
    let calls = Calls {
        size: 4,
        limit: limit(4, 4),
        before: &[],
        meanwhile: [&[Bad], &[Good]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(false, 1, 2)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn one_of_two_failures_sees_both() {
    let calls = Calls {
        size: 4,
        limit: limit(2, 4),
        before: &[Good; 4],
        meanwhile: [&[Bad], &[Bad]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(true, 2, 4)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn one_of_two_failures_sees_both_and_an_older_one() {
    let calls = Calls {
        size: 4,
        limit: limit(3, 4),
        before: &[Good, Good, Good, Bad],
        meanwhile: [&[Bad], &[Bad]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(true, 3, 4)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn one_of_two_failures_sees_both_while_the_window_fills_up() {
    let calls = Calls {
        size: 4,
        limit: limit(2, 4),
        before: &[Good, Good],
        meanwhile: [&[Bad], &[Bad]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(true, 2, 4)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn failures_before_the_window_is_full_do_not_trip_it() {
    let calls = Calls {
        size: 4,
        limit: limit(2, 4),
        before: &[Good],
        meanwhile: [&[Bad], &[Bad]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(false, 2, 3)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn a_success_that_fills_the_window_hides_no_failure() {
    let calls = Calls {
        size: 4,
        limit: limit(2, 4),
        before: &[Good, Good],
        meanwhile: [&[Bad], &[Good, Bad]],
        after: &[],
    };
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn two_successes_are_both_counted_or_a_trip_would_be_invented() {
    let calls = Calls {
        size: 3,
        limit: limit(2, 3),
        before: &[Good, Good, Good, Bad],
        meanwhile: [&[Good], &[Good]],
        after: &[Bad],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(false, 1, 3)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn a_success_that_writes_nothing_loses_no_failure() {
    let calls = Calls {
        size: 4,
        limit: limit(2, 4),
        before: &[Good; 4],
        meanwhile: [&[Good], &[Bad]],
        after: &[Good, Bad],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(true, 2, 4)]));
    calls.come_to_what_some_order_comes_to();
}

/// Three failures in a ring of two places: the third writes where the first would.
#[test]
fn a_late_mark_loses_no_newer_one() {
    let calls = Calls {
        size: 2,
        limit: limit(2, 2),
        before: &[Good, Good],
        meanwhile: [&[Bad], &[Good, Bad, Bad]],
        after: &[],
    };
    calls.come_to_what_some_order_comes_to();
}

/// The first failure's place is written again before the second has told.
#[test]
fn a_failure_that_tells_late_still_knows_of_the_one_before_it() {
    let calls = Calls {
        size: 2,
        limit: limit(2, 2),
        before: &[Good, Good, Bad],
        meanwhile: [&[Bad], &[Good, Bad]],
        after: &[],
    };
    assert_eq!(calls.outcomes(), BTreeSet::from([(true, 1, 2), (true, 2, 2)]));
    calls.come_to_what_some_order_comes_to();
}

#[test]
fn law_04_the_older_generation_counts_for_nothing_in_the_next() {
    model_of_two(|two| {
        let window = Arc::new(CountWindow::new(2, limit(2, 2), 0));
        record(&window, &[Good, Good]);
        let [late, next] = [Arc::clone(&window), Arc::clone(&window)];
        two.run(
            move || {
                late.bad(0);
                late.good(0);
            },
            move || {
                next.reset(1);
                next.good(1);
                next.good(1);
                // Neither the late failure nor its mark makes two of this one.
                assert_eq!(next.bad(1), None);
            },
        );
        assert_eq!(window.counts(1), Counts { bad: 1, calls: 2 });
        // And it is found where it was remembered.
        assert_eq!(window.bad(1), Some(Counts { bad: 2, calls: 2 }));
    });
}

// ---- The calls of the last T -----------------------------------------------------------------------

/// In the middle of a turn, of which one is a second.
fn during(turn: u64) -> Tick {
    start().after(Duration::from_millis(turn * 1000 + 500))
}

fn start() -> Tick {
    Tick::from_bits(1 << 62)
}

/// A window of three turns that two failures trip, if there is nothing else in it.
fn three_turns() -> Arc<TimeWindow> {
    assert_eq!(BUCKETS, 3);
    Arc::new(TimeWindow::new(Duration::from_secs(3), limit(2, 2), 0, start()))
}

/// Two threads fail, each in a turn of its own: whether either was told of two failures.
fn fail_during(two: Two, turns: [u64; 2], window: &Arc<TimeWindow>) -> bool {
    let [first, second] = turns.map(|turn| {
        let window = Arc::clone(window);
        move || window.bad(0, during(turn)).is_some()
    });
    let (first, second) = two.run(first, second);
    first | second
}

#[test]
fn one_of_two_failures_sees_both_across_a_turn() {
    model_of_two(|two| {
        let window = three_turns();
        assert!(fail_during(two, [0, 1], &window), "neither saw both");
        assert_eq!(window.counts(0, during(1)), Counts { bad: 2, calls: 2 });
    });
}

#[test]
fn one_of_two_failures_sees_both_when_both_turn() {
    model_of_two(|two| {
        let window = three_turns();
        assert!(fail_during(two, [1, 2], &window), "neither saw both");
        assert_eq!(window.counts(0, during(2)), Counts { bad: 2, calls: 2 });
    });
}

#[test]
fn a_success_and_a_failure_across_a_turn_are_both_counted() {
    model_of_two(|two| {
        let window = three_turns();
        let [good, bad] = [Arc::clone(&window), Arc::clone(&window)];
        two.run(move || good.good(0, during(1)), move || bad.bad(0, during(0)));
        assert_eq!(window.counts(0, during(1)), Counts { bad: 1, calls: 2 });
    });
}

/// The bucket of turn 0 is that of turn 3 as well.
#[test]
fn a_bucket_that_comes_round_keeps_nothing_old_and_loses_nothing_new() {
    model_of_two(|two| {
        let window = three_turns();
        let tripped = fail_during(two, [0, 3], &window);
        let counts = window.counts(0, during(3));
        // The first has gone with its turn, unless it came so late that it counted as of now.
        let both = counts == Counts { bad: 2, calls: 2 };
        assert!(both || counts == Counts { bad: 1, calls: 1 }, "{counts:?}");
        assert_eq!(tripped, both);
    });
}

#[test]
fn law_04_the_older_generation_neither_counts_nor_turns_the_next() {
    model_of_two(|two| {
        let window = three_turns();
        let [late, next] = [Arc::clone(&window), Arc::clone(&window)];
        let (late, next) = two.run(
            move || late.bad(0, during(1)),
            move || {
                next.reset(1, during(0));
                next.bad(1, during(0))
            },
        );
        assert_eq!((late, next), (None, None));
        assert_eq!(window.counts(1, during(0)), Counts { bad: 1, calls: 1 });
        assert_eq!(window.bad(1, during(1)), Some(Counts { bad: 2, calls: 2 }));
    });
}

/// The one that the older generation wants to clear for its next turn.
#[test]
fn law_04_the_older_generation_clears_no_bucket_of_the_next() {
    model_of_two(|two| {
        let window = three_turns();
        let [late, next] = [Arc::clone(&window), Arc::clone(&window)];
        let (late, next) = two.run(
            move || late.bad(0, during(1)),
            move || {
                next.reset(1, during(1));
                next.bad(1, during(1));
                next.bad(1, during(1))
            },
        );
        let both = Counts { bad: 2, calls: 2 };
        assert_eq!((late, next), (None, Some(both)), "told to whom it concerns");
        assert_eq!(window.counts(1, during(1)), both);
    });
}

/// The bucket of turn 1 is that of turn 4 as well.
#[test]
fn a_bucket_in_use_for_a_later_turn_is_not_cleared_for_an_older_one() {
    model_of_two(|two| {
        let window = three_turns();
        let [old, new] = [Arc::clone(&window), Arc::clone(&window)];
        two.run(move || old.good(0, during(1)), move || new.bad(0, during(4)));
        let counts = window.counts(0, during(4));
        // The success has gone with its turn, unless it came so late that it counted as of now.
        assert!(counts.bad == 1 && counts.calls <= 2, "{counts:?}");
    });
}
