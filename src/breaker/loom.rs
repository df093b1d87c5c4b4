//! Models of the breaker's cell, each explored by loom in every order of its threads' steps: one
//! compare-and-swap decides, one transition is made and told, and an older generation changes
//! nothing.
//!
//! Built with `--cfg buttress_loom`. The clock stands still and every duration is an hour, so that
//! nothing is due by itself, and what is to be due is due by an explicit time.

use std::{sync::Mutex, time::Duration};

use ::loom::{sync::Arc, thread};

use super::{
    CircuitBreakerConfig, OpenReason, State, Window,
    cell::BreakerCell,
    deadline::Deadline,
    gate::Gate,
    streak::Streak,
    ticket::Ticket,
    wait::{Clearance, Reservation},
    window::Counts,
};
use crate::{
    backoff::{Backoff, Jitter},
    clock::Tick,
    sync::{Ordering, Two, lock, model, model_of_two},
    verdict::FailureKind,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Two failures of two calls trip it, and all of its probes must succeed.
fn config(probes: u32) -> CircuitBreakerConfig {
    CircuitBreakerConfig {
        window: Window::Calls(2),
        failure_ratio: 1.0,
        min_calls: 2,
        open_for: Backoff::constant(HOUR).jitter(Jitter::None),
        probes,
        success_ratio: 1.0,
        half_open_for: HOUR,
        ..CircuitBreakerConfig::default()
    }
}

fn closed() -> Arc<BreakerCell> {
    Arc::new(BreakerCell::new("loom", config(1)))
}

/// In generation 2, after it was forced open until now.
fn half_open(probes: u32) -> Arc<BreakerCell> {
    let cell = Arc::new(BreakerCell::new("loom", config(probes)));
    make_half_open(&cell);
    cell
}

fn make_half_open(cell: &BreakerCell) {
    let now = Tick::now();
    cell.force(State::ForcedOpen, None, now);
    cell.settle(now);
    assert_eq!((cell.gate().state(), cell.gate().generation()), (State::HalfOpen, 2));
}

/// Runs both at the same time.
fn both<A: 'static, B: 'static>(
    two: Two,
    cell: &Arc<BreakerCell>,
    first: impl FnOnce(&BreakerCell) -> A + 'static,
    second: impl FnOnce(&BreakerCell) -> B + 'static,
) -> (A, B) {
    let [one, other] = [Arc::clone(cell), Arc::clone(cell)];
    two.run(move || first(&one), move || second(&other))
}

fn good(cell: &BreakerCell, ticket: Ticket) {
    cell.good(ticket, Tick::NEVER);
}

fn bad(cell: &BreakerCell, ticket: Ticket) {
    cell.bad(ticket, Tick::NEVER, FailureKind::Failed);
}

/// The state in the end, its generation, and how many transitions were remembered.
fn state(cell: &BreakerCell) -> (State, u32, usize) {
    let gate = cell.gate();
    (gate.state(), gate.generation(), lock(&cell.ledger).history.len())
}

// ---- Closed ----------------------------------------------------------------------------------------

#[test]
fn two_failures_at_once_trip_once() {
    model_of_two(|two| {
        let cell = closed();
        let [one, other] = [cell.admit().unwrap(), cell.admit().unwrap()];
        both(two, &cell, move |cell| bad(cell, other), move |cell| bad(cell, one));
        assert_eq!(state(&cell), (State::Open, 1, 1));
    });
}

/// Whoever sees the circuit open sees until when, and why.
#[test]
fn what_a_state_implies_is_there_before_it() {
    model_of_two(|two| {
        let cell = closed();
        let ticket = cell.admit().unwrap();
        bad(&cell, ticket);
        both(
            two,
            &cell,
            move |cell| bad(cell, ticket),
            move |cell| {
                let look = cell.look(Tick::now());
                assert!(!look.due, "an hour is not over yet");
                if look.state == State::Open {
                    let why = cell.open_reason(look);
                    assert!(matches!(why, OpenReason::FailureRatio { failures: 2, .. }), "{why:?}");
                }
            },
        );
    });
}

#[test]
fn forced_open_without_expiry_gets_none_from_a_trip() {
    model_of_two(|two| {
        let cell = closed();
        let ticket = cell.admit().unwrap();
        bad(&cell, ticket);
        both(
            two,
            &cell,
            move |cell| bad(cell, ticket),
            move |cell| cell.force(State::ForcedOpen, None, Tick::NEVER),
        );
        assert_eq!(cell.gate().state(), State::ForcedOpen);
        assert_eq!(cell.until.load(Ordering::Acquire), Tick::NEVER.bits());
        let (_, generation, transitions) = state(&cell);
        assert!((1..=2).contains(&generation));
        assert_eq!(transitions, generation as usize);
    });
}

#[test]
fn law_04_a_failure_from_before_a_reset_changes_nothing_after_it() {
    model_of_two(|two| {
        let cell = closed();
        let ticket = cell.admit().unwrap();
        bad(&cell, ticket);
        let ((), ticket) = both(
            two,
            &cell,
            move |cell| bad(cell, ticket),
            |cell| {
                cell.force(State::Closed, None, Tick::NEVER);
                let ticket = cell.admit().unwrap();
                bad(cell, ticket);
                ticket
            },
        );
        let gate = cell.gate();
        assert_eq!((gate.state(), gate.generation()), (State::Closed, ticket.generation));
        let counts = cell.failure_counts(gate.generation(), Tick::NEVER);
        assert_eq!(counts, Counts { bad: 1, calls: 1 });
    });
}

/// A call that is admitted while the circuit closes counts in the window it was admitted to.
#[test]
fn the_window_is_empty_before_the_gate_lets_anybody_in() {
    model_of_two(|two| {
        let cell = half_open(1);
        let probe = cell.admit().unwrap();
        both(
            two,
            &cell,
            move |cell| good(cell, probe),
            |cell| {
                if cell.gate().is_closed() {
                    let ticket = cell.admit().unwrap();
                    bad(cell, ticket);
                    let counts = cell.failure_counts(ticket.generation, Tick::NEVER);
                    assert_eq!(counts, Counts { bad: 1, calls: 1 });
                }
            },
        );
        assert_eq!(state(&cell), (State::Closed, 3, 3));
    });
}

#[test]
fn transitions_are_told_once_and_in_order() {
    model_of_two(|two| {
        // Subscriptions are for cells that live for ever. A small one, since it is not freed.
        let cell: &'static BreakerCell = Box::leak(Box::new(BreakerCell::new("loom", config(1))));
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let telling = std::sync::Arc::clone(&told);
        let subscription = cell.subscribers.add(std::sync::Arc::new(move |transition| {
            telling.lock().unwrap().push(transition.generation);
        }));
        two.run(
            || cell.force(State::ForcedOpen, None, Tick::NEVER),
            || cell.force(State::ForcedClosed, None, Tick::NEVER),
        );
        assert_eq!(*told.lock().unwrap(), [1, 2]);
        drop(subscription);
    });
}

// ---- Half-open -------------------------------------------------------------------------------------

#[test]
fn no_more_probes_than_there_are() {
    model(|| {
        let cell = half_open(2);
        let threads = [(); 2].map(|()| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.admit().is_ok())
        });
        let mut admitted = u32::from(cell.admit().is_ok());
        for thread in threads {
            admitted += u32::from(thread.join().unwrap());
        }
        assert_eq!((admitted, cell.gate().outstanding()), (2, 2));
    });
}

/// What two probes come to that come back at the same time.
fn finish_together(outcomes: [fn(&BreakerCell, Ticket); 2], to: State) {
    model_of_two(move |two| {
        let cell = half_open(2);
        let [one, other] = [cell.admit().unwrap(), cell.admit().unwrap()];
        both(two, &cell, move |cell| outcomes[1](cell, other), move |cell| outcomes[0](cell, one));
        assert_eq!(state(&cell), (to, 3, 3), "exactly one transition");
    });
}

#[test]
fn two_probes_that_succeed_close_once() {
    finish_together([good, good], State::Closed);
}

#[test]
fn two_probes_that_fail_reopen_once() {
    finish_together([bad, bad], State::Open);
}

#[test]
fn one_probe_of_each_kind_reopens_once() {
    finish_together([good, bad], State::Open);
}

#[test]
fn a_probe_given_back_can_be_had_again() {
    model_of_two(|two| {
        let cell = half_open(1);
        let probe = cell.admit().unwrap();
        let admit = |cell: &BreakerCell| cell.admit().is_ok();
        let ((), had) = both(two, &cell, move |cell| cell.neutral(probe), admit);
        assert_eq!(cell.gate().outstanding(), u32::from(had));
        assert_eq!(cell.admit().is_ok(), !had);
        assert_eq!(cell.gate().generation(), 2);
    });
}

#[test]
fn law_04_a_probe_from_before_a_forced_state_changes_nothing_in_it() {
    model_of_two(|two| {
        let cell = half_open(1);
        let probe = cell.admit().unwrap();
        both(
            two,
            &cell,
            move |cell| bad(cell, probe),
            move |cell| cell.force(State::ForcedOpen, None, Tick::NEVER),
        );
        // It reopened before that, or came too late.
        let generation = cell.gate().generation();
        assert!((3..=4).contains(&generation));
        assert_eq!(cell.gate(), Gate::new(State::ForcedOpen, generation), "and no probe counted");
        assert_eq!(cell.until.load(Ordering::Acquire), Tick::NEVER.bits());
    });
}

#[test]
fn law_04_a_probe_of_an_older_phase_does_not_count_in_the_next() {
    model_of_two(|two| {
        let cell = half_open(2);
        let probe = cell.admit().unwrap();
        both(
            two,
            &cell,
            move |cell| good(cell, probe),
            |cell| {
                let now = Tick::now();
                cell.force(State::ForcedOpen, None, now);
                cell.settle(now);
                cell.admit().unwrap();
            },
        );
        let gate = Gate::new(State::HalfOpen, 4).start_probe(2);
        assert_eq!(Some(cell.gate()), gate, "one probe under way, and none that came back");
    });
}

/// A deadline that is over, and the probe that it was for coming back in time by its own clock.
#[test]
fn an_overdue_probe_reopens_or_counts_and_not_both() {
    model_of_two(|two| {
        let cell = half_open(2);
        let probe = cell.admit().unwrap();
        let before = cell.evidence.load(Ordering::Acquire);
        let overdue = cell.deadline.of(2).unwrap();
        both(two, &cell, move |cell| cell.settle(overdue), move |cell| good(cell, probe));
        let gate = cell.gate();
        let evidence_is_old = cell.evidence.load(Ordering::Acquire) == before;
        match gate.state() {
            // Nothing is overdue any more.
            State::HalfOpen => {
                assert_eq!((gate.succeeded(), gate.outstanding()), (1, 0));
                assert_eq!(state(&cell), (State::HalfOpen, 2, 2));
                assert!(evidence_is_old, "evidence of an opening that did not take place");
            }
            state_now => {
                assert_eq!(state(&cell), (State::Open, 3, 3), "{state_now:?}");
                assert!(!evidence_is_old);
            }
        }
    });
}

#[test]
fn the_last_probe_closes_or_is_overdue_and_not_both() {
    model_of_two(|two| {
        let cell = half_open(1);
        let probe = cell.admit().unwrap();
        let overdue = cell.deadline.of(2).unwrap();
        both(two, &cell, move |cell| cell.settle(overdue), move |cell| good(cell, probe));
        let (now, generation, transitions) = state(&cell);
        assert!(matches!(now, State::Closed | State::Open), "{now:?}");
        assert_eq!((generation, transitions), (3, 3), "exactly one transition");
    });
}

/// The deadline of those that came back is not that of one which begins.
#[test]
fn a_probe_that_has_just_begun_is_not_overdue() {
    model_of_two(|two| {
        let cell = half_open(2);
        let probe = cell.admit().unwrap();
        let overdue = cell.deadline.of(2).unwrap();
        let ((), begun) = both(
            two,
            &cell,
            move |cell| cell.settle(overdue),
            move |cell| {
                good(cell, probe);
                let gate = cell.gate();
                // Its own deadline is an hour after the other one.
                let begin = |next| cell.begin_probe(gate, next, overdue);
                gate.state() == State::HalfOpen && gate.start_probe(2).is_some_and(begin)
            },
        );
        let gate = cell.gate();
        assert_eq!((gate.state() == State::HalfOpen, gate.outstanding() == 1), (begun, begun));
    });
}

// ---- Reservations ----------------------------------------------------------------------------------

/// A half-open one that lives as long as its reservations may.
fn for_ever(probes: u32) -> &'static BreakerCell {
    let cell: &'static BreakerCell = Box::leak(Box::new(BreakerCell::new("loom", config(probes))));
    make_half_open(cell);
    cell
}

/// How many probes are under way or put aside.
fn taken(cell: &BreakerCell) -> u32 {
    cell.gate().reserved() + cell.gate().outstanding()
}

/// Reserves a probe and makes use of it: its ticket, if it was to be had.
fn reserve_and_start(cell: &'static BreakerCell) -> Option<Ticket> {
    let Clearance::Reserved(reservation) = cell.clear() else { return None };
    let ticket = reservation.start();
    assert!(taken(cell) <= 1);
    ticket
}

#[test]
fn a_reserved_probe_is_one_of_the_probes() {
    model_of_two(|two| {
        let cell = for_ever(1);
        let (admitted, started) =
            two.run(move || cell.admit().ok(), move || reserve_and_start(cell));
        assert!(admitted.is_some() ^ started.is_some(), "one probe for two");
        assert_eq!((taken(cell), cell.gate().reserved()), (1, 0));
        cell.neutral(admitted.or(started).unwrap());
        assert_eq!(taken(cell), 0);
    });
}

#[test]
fn two_reservations_start_a_probe_each() {
    model_of_two(|two| {
        let cell = for_ever(2);
        let start = move || match cell.clear() {
            Clearance::Reserved(reservation) => reservation.start(),
            Clearance::Free | Clearance::Taken => None,
        };
        let (one, other) = two.run(start, start);
        assert!(one.is_some() && other.is_some(), "two probes for two");
        assert_eq!((taken(cell), cell.gate().reserved()), (2, 0));
    });
}

#[test]
fn a_reservation_dropped_gives_back_its_own_probe() {
    model_of_two(|two| {
        let cell = for_ever(1);
        let ((), started) = two.run(move || drop(cell.clear()), move || reserve_and_start(cell));
        assert_eq!((taken(cell), cell.gate().reserved()), (u32::from(started.is_some()), 0));
        if let Some(ticket) = started {
            cell.neutral(ticket);
        }
        assert_eq!(taken(cell), 0);
    });
}

/// Reservations whose leases have run out are taken back while one of them starts, or is dropped.
fn lapse_while(code: fn(Reservation) -> Option<Ticket>) {
    model_of_two(move |two| {
        let cell = for_ever(1);
        let Clearance::Reserved(lapsed) = cell.clear() else { panic!("nobody else is there") };
        let (started, mine) = two.run(
            move || code(lapsed),
            move || {
                cell.reclaim_reservations(cell.gate(), Tick::NEVER);
                reserve_and_start(cell)
            },
        );
        let running = u32::from(mine.is_some()) + u32::from(started.is_some());
        assert!(running <= 1, "one probe for two");
        assert_eq!(cell.gate().outstanding(), running);
        mine.or(started).into_iter().for_each(|ticket| cell.neutral(ticket));
        assert_eq!(taken(cell), 0);
    });
}

#[test]
fn a_lapsed_reservation_that_starts_takes_no_second_probe() {
    lapse_while(Reservation::start);
}

#[test]
fn a_lapsed_reservation_that_is_dropped_gives_back_nothing_twice() {
    lapse_while(dropped);
}

/// What is taken back and reserved anew makes the gate the same word as before.
#[test]
fn a_reservation_that_is_taken_back_while_it_is_dropped_gives_back_no_other() {
    model_of_two(|two| {
        let cell = for_ever(1);
        let Clearance::Reserved(lapsed) = cell.clear() else { panic!("nobody else is there") };
        let (_, mine) = two.run(
            move || dropped(lapsed),
            move || {
                cell.reclaim_reservations(cell.gate(), Tick::NEVER);
                cell.clear()
            },
        );
        let Clearance::Reserved(mine) = mine else { panic!("nobody else wants it") };
        assert_eq!(cell.gate().reserved(), 1);
        drop(mine);
        assert_eq!(taken(cell), 0);
    });
}

#[test]
fn a_reservation_that_was_taken_back_gives_back_none_made_since() {
    model_of_two(|two| {
        let cell = for_ever(1);
        let Clearance::Reserved(lapsed) = cell.clear() else { panic!("nobody else is there") };
        cell.reclaim_reservations(cell.gate(), Tick::NEVER);
        let (_, mine) = two.run(move || dropped(lapsed), move || reserve_and_start(cell));
        cell.neutral(mine.expect("nobody else wants a probe"));
        assert_eq!(taken(cell), 0);
    });
}

fn dropped(reservation: Reservation) -> Option<Ticket> {
    drop(reservation);
    None
}

/// A reservation of one phase starts, or is dropped, while the next one begins and reserves.
fn outlive_its_phase(code: fn(Reservation) -> Option<Ticket>) {
    model_of_two(move |two| {
        let cell = for_ever(2);
        let Clearance::Reserved(old) = cell.clear() else { panic!("nobody else is there") };
        let (_, mine) = two.run(
            move || code(old),
            move || {
                let now = Tick::now();
                cell.force(State::ForcedOpen, None, now);
                cell.settle(now);
                cell.clear()
            },
        );
        let gate = Gate::new(State::HalfOpen, 4).reserve_probe(2);
        assert_eq!(Some(cell.gate()), gate, "what is put aside in this phase");
        drop(mine);
        assert_eq!(taken(cell), 0);
    });
}

#[test]
fn law_04_a_reservation_of_an_older_phase_starts_no_probe_of_the_next() {
    outlive_its_phase(Reservation::start);
}

#[test]
fn law_04_a_reservation_of_an_older_phase_gives_back_none_of_the_next() {
    outlive_its_phase(dropped);
}

// ---- Words with a generation -------------------------------------------------------------------------

#[test]
fn of_two_failures_in_a_row_the_second_is_told() {
    model_of_two(|two| {
        let streak = Arc::new(Streak::new(Some(2)));
        let [one, other] = [Arc::clone(&streak), Arc::clone(&streak)];
        let (mine, other) = two.run(move || one.failure(0), move || other.failure(0));
        assert!(matches!((mine, other), (Some(2), None) | (None, Some(2))), "{mine:?}, {other:?}");
        assert_eq!(streak.count(0), 2);
    });
}

#[test]
fn law_04_an_older_generation_neither_extends_nor_ends_a_streak() {
    model_of_two(|two| {
        let streak = Arc::new(Streak::new(Some(3)));
        streak.failure(0);
        let [late, next] = [Arc::clone(&streak), Arc::clone(&streak)];
        two.run(
            move || {
                late.failure(0);
                late.success(0);
            },
            move || {
                next.failure(1);
                next.failure(1);
            },
        );
        assert_eq!((streak.count(1), streak.count(0)), (2, 0));
    });
}

#[test]
fn law_04_an_older_phase_does_not_move_a_deadline() {
    model_of_two(|two| {
        let start = Tick::now();
        let at = move |hours| start.after(HOUR * hours);
        let deadline = Arc::new(Deadline::new(start));
        deadline.set(1, at(1));
        let [late, next] = [Arc::clone(&deadline), Arc::clone(&deadline)];
        two.run(
            move || late.extend(1, at(9)),
            move || {
                next.set(2, at(2));
                next.extend(2, at(3));
            },
        );
        assert_eq!((deadline.of(1), deadline.of(2)), (None, Some(at(3))));
    });
}

#[test]
fn the_latest_deadline_stands() {
    model_of_two(|two| {
        let start = Tick::now();
        let at = move |hours| start.after(HOUR * hours);
        let deadline = Arc::new(Deadline::new(start));
        deadline.set(1, at(1));
        let [one, other] = [Arc::clone(&deadline), Arc::clone(&deadline)];
        two.run(move || one.extend(1, at(2)), move || other.extend(1, at(3)));
        assert_eq!(deadline.of(1), Some(at(3)));
    });
}
