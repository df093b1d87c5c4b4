//! The keyed breaker against a reference written to be obvious: a list of plain breakers, each built
//! anew for each tenant, and a hand that goes round. Whatever happens, both say the same.
#![allow(missing_docs)]

use std::time::Duration;

use buttress::{
    Backoff, CircuitBreaker, CircuitBreakerConfig, Jitter, KeyedCircuitBreaker, Verdict, Window,
    breaker::{OpenReason, Permit, Snapshot, State, Transition},
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const KEYS: u32 = 6;

/// Two calls of which one fails trip it; open for 2 s, then 4, up to 8; two probes, one of which
/// must succeed.
fn config() -> CircuitBreakerConfig {
    let mut config = CircuitBreakerConfig::default();
    config.window = Window::Calls(4);
    config.min_calls = 2;
    config.open_for = Backoff::exponential(2 * SECOND).max(8 * SECOND).jitter(Jitter::None);
    config.probes = 2;
    config.half_open_for = 3 * SECOND;
    config
}

#[derive(Clone, Debug)]
enum Op {
    Call(u32, bool),
    /// A call that begins, to end later.
    Begin(u32),
    /// One of those that have begun ends; the number is taken modulo how many there are.
    End(usize, Option<bool>),
    Wait(u32),
    ForceOpen(u32, Option<u32>),
    ForceClosed(u32, Option<u32>),
    Reset(u32),
    Remove(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let expiry = prop::option::of(1_u32..4);
    prop_oneof![
        10 => (0..KEYS, any::<bool>()).prop_map(|(key, good)| Op::Call(key, good)),
        4 => (0..KEYS).prop_map(Op::Begin),
        4 => (any::<usize>(), any::<Option<bool>>()).prop_map(|(which, good)| Op::End(which, good)),
        3 => (1_u32..4).prop_map(Op::Wait),
        1 => (0..KEYS, expiry.clone()).prop_map(|(key, secs)| Op::ForceOpen(key, secs)),
        1 => (0..KEYS, expiry).prop_map(|(key, secs)| Op::ForceClosed(key, secs)),
        1 => (0..KEYS).prop_map(Op::Reset),
        1 => (0..KEYS).prop_map(Op::Remove),
    ]
}

struct Tenant {
    key: u32,
    breaker: CircuitBreaker,
    touched: bool,
}

struct Reference {
    places: Vec<Option<Tenant>>,
    most: usize,
    hand: usize,
    unprotected: u64,
}

impl Reference {
    fn find(&mut self, key: u32) -> Option<&mut Tenant> {
        self.places.iter_mut().flatten().find(|tenant| tenant.key == key)
    }

    fn breaker(&mut self, key: u32) -> Option<CircuitBreaker> {
        self.find(key).map(|tenant| tenant.breaker)
    }

    /// The breaker of this key; a new one, if there is a place for it.
    fn move_in(&mut self, key: u32) -> Option<CircuitBreaker> {
        if let Some(breaker) = self.breaker(key) {
            return Some(breaker);
        }
        let number = self.free_place()?;
        let breaker = CircuitBreaker::from_config("model", config()).unwrap();
        self.places[number] = Some(Tenant { key, breaker, touched: false });
        Some(breaker)
    }

    fn free_place(&mut self) -> Option<usize> {
        if self.places.len() < self.most {
            self.places.push(None);
            return Some(self.places.len() - 1);
        }
        if let Some(number) = self.places.iter().position(Option::is_none) {
            return Some(number);
        }
        for _ in 0..2 * self.most {
            let number = self.hand;
            self.hand = (self.hand + 1) % self.most;
            let tenant = self.places[number].as_mut().unwrap();
            if tenant.breaker.state() == State::Closed {
                // Whoever looks at what time has closed makes it so. A plain breaker is looked at
                // by asking it for leave.
                drop(tenant.breaker.try_acquire());
                if !tenant.touched {
                    return Some(number);
                }
                tenant.touched = false;
            }
        }
        None
    }

    /// What a call meets: leave, leave without a breaker, or the error.
    fn call(&mut self, key: u32) -> Result<Option<Permit>, String> {
        if let Some(tenant) = self.find(key) {
            tenant.touched = true;
            return tenant.breaker.try_acquire().map(Some).map_err(|error| error.to_string());
        }
        if let Some(breaker) = self.move_in(key) {
            return breaker.try_acquire().map(Some).map_err(|error| error.to_string());
        }
        self.unprotected += 1;
        Ok(None)
    }

    fn remove(&mut self, key: u32) -> bool {
        let of_key = |place: &Option<Tenant>| place.as_ref().is_some_and(|it| it.key == key);
        match self.places.iter().position(of_key) {
            Some(number) => self.places[number].take().is_some(),
            None => false,
        }
    }
}

fn verdict(good: bool) -> Verdict {
    if good { Verdict::Success } else { Verdict::Transient }
}

fn record(permit: Option<Permit>, good: bool) {
    if let Some(permit) = permit {
        permit.record(verdict(good));
    }
}

/// Caused by time alone. It is in effect at once, but in the history only when somebody has come
/// along; and that may be a late probe of the last tenant, who finds what time has done meanwhile.
fn is_lazy(transition: &Transition) -> bool {
    let overdue = matches!(transition.reason, Some(OpenReason::ProbesOverdue { .. }));
    let over = transition.to == State::HalfOpen || transition.from == State::ForcedClosed;
    transition.note.is_none() && (overdue || over)
}

/// All that a snapshot shows but what is numbered through.
fn shown(mut snapshot: Snapshot) -> impl PartialEq + std::fmt::Debug {
    while snapshot.transitions.last().is_some_and(is_lazy) {
        snapshot.transitions.pop();
    }
    let transitions: Vec<_> = snapshot
        .transitions
        .into_iter()
        .map(|it| (it.at, it.from, it.to, it.reason, it.failures, it.note))
        .collect();
    let counts = (snapshot.calls, snapshot.failures, snapshot.probes);
    let outage = snapshot.outage.map(|outage| outage.at);
    // Where nothing has happened yet, the state began when the tenant moved in.
    (
        snapshot.state,
        snapshot.since,
        snapshot.ready_at,
        counts,
        snapshot.reason,
        outage,
        transitions,
    )
}

async fn agree(most: usize, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let keyed: KeyedCircuitBreaker<u32> =
        KeyedCircuitBreaker::from_config("model", config(), most).unwrap();
    let mut reference = Reference { places: Vec::new(), most, hand: 0, unprotected: 0 };
    let mut begun: Vec<(Permit, Option<Permit>)> = Vec::new();
    let secs = |secs: Option<u32>| secs.map(|secs| secs * SECOND);
    for op in ops {
        match op {
            Op::Call(key, _) | Op::Begin(key) => {
                let expected = reference.call(key);
                let got = keyed.try_acquire(&key).map_err(|error| error.to_string());
                prop_assert_eq!(got.as_ref().err(), expected.as_ref().err(), "{:?}", op);
                prop_assert_eq!(got.is_ok(), expected.is_ok(), "{:?}", op);
                if let (Ok(permit), Ok(other)) = (got, expected) {
                    if let Op::Call(_, good) = op {
                        permit.record(verdict(good));
                        record(other, good);
                    } else {
                        begun.push((permit, other));
                    }
                }
            }
            Op::End(_, _) if begun.is_empty() => {}
            Op::End(which, good) => {
                let (permit, other) = begun.swap_remove(which % begun.len());
                if let Some(good) = good {
                    permit.record(verdict(good));
                    record(other, good);
                }
            }
            Op::Wait(secs) => tokio::time::advance(secs * SECOND).await,
            Op::ForceOpen(key, expiry) => {
                let breaker = reference.move_in(key);
                let forced = keyed.force_open(&key, "by hand", secs(expiry));
                prop_assert_eq!(forced, breaker.is_some());
                breaker.inspect(|breaker| breaker.force_open("by hand", secs(expiry)));
            }
            Op::ForceClosed(key, expiry) => {
                let breaker = reference.move_in(key);
                let forced = keyed.force_closed(&key, "by hand", secs(expiry));
                prop_assert_eq!(forced, breaker.is_some());
                breaker.inspect(|breaker| breaker.force_closed("by hand", secs(expiry)));
            }
            Op::Reset(key) => {
                let breaker = reference.breaker(key);
                prop_assert_eq!(keyed.reset(&key), breaker.is_some());
                breaker.inspect(|breaker| breaker.reset());
            }
            Op::Remove(key) => prop_assert_eq!(keyed.remove(&key), reference.remove(key)),
        }
        let mut open = Vec::new();
        for key in 0..KEYS {
            let expected = reference.breaker(key).map(CircuitBreaker::snapshot);
            if let Some(snapshot) = &expected
                && snapshot.state != State::Closed
            {
                open.push((key, snapshot.state));
            }
            prop_assert_eq!(keyed.snapshot(&key).map(shown), expected.map(shown), "key {}", key);
        }
        let mut open_keys = keyed.open_keys();
        open_keys.sort_unstable_by_key(|(key, _)| *key);
        prop_assert_eq!(open_keys, open);
        prop_assert_eq!(keyed.len(), reference.places.iter().flatten().count());
        prop_assert_eq!(keyed.unprotected(), reference.unprotected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_keyed_breaker_is_many_plain_ones(
        most in 1_usize..=4,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut clock = tokio::runtime::Builder::new_current_thread();
        let clock = clock.enable_time().start_paused(true).build().unwrap();
        clock.block_on(agree(most, ops))?;
    }
}
