//! The gate: a breaker's state, its generation and the probes of a half-open phase in one word.
//!
//! Everything here is a function from a word to a word, so that one compare-and-swap decides: at
//! most so many probes, whoever asks at the same time, and a result counts only in the generation
//! that admitted it.
//!
//! ```text
//!  63         35 34      27 26         19 18      11 10          3 2     0
//! +-------------+----------+-------------+----------+-------------+-------+
//! | generation  |  failed  |  succeeded  | reserved | outstanding | state |
//! +-------------+----------+-------------+----------+-------------+-------+
//! ```

use super::State;

/// The most probes a half-open phase can have: what eight bits hold.
pub(super) const MAX_PROBES: u32 = 255;

const GENERATION_BITS: u32 = 29;
const GENERATION_SHIFT: u32 = 35;

const OUTSTANDING: Field = Field(3);
const RESERVED: Field = Field(11);
const SUCCEEDED: Field = Field(19);
const FAILED: Field = Field(27);

/// Eight bits of the word.
#[derive(Clone, Copy)]
struct Field(u32);

impl Field {
    const fn of(self, gate: Gate) -> u32 {
        ((gate.0 >> self.0) & 0xff) as u32
    }

    const fn plus_one(self, gate: Gate) -> Gate {
        Gate(gate.0 + (1 << self.0))
    }

    const fn minus_one(self, gate: Gate) -> Gate {
        Gate(gate.0 - (1 << self.0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate(u64);

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Succeeded,
    Failed,
    /// Nothing was learned: the probe is given back and somebody else may have it.
    GivenBack,
}

/// What the verdicts of a half-open phase amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Close,
    Reopen,
}

impl Gate {
    pub(super) const fn new(state: State, generation: u32) -> Gate {
        let state = match state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
            State::ForcedOpen => 3,
            State::ForcedClosed => 4,
        };
        Gate((generation as u64) << GENERATION_SHIFT | state)
    }

    pub(super) const fn from_bits(bits: u64) -> Gate {
        Gate(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// The one question of the hot path.
    #[inline]
    pub(super) const fn is_closed(self) -> bool {
        matches!(self.state(), State::Closed)
    }

    pub(super) const fn state(self) -> State {
        match self.0 & 7 {
            0 => State::Closed,
            1 => State::Open,
            2 => State::HalfOpen,
            3 => State::ForcedOpen,
            _ => State::ForcedClosed,
        }
    }

    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    /// The generation that follows this one. Wraps after half a milliard transitions.
    pub(super) const fn next_generation(self) -> u32 {
        (self.generation() + 1) & ((1 << GENERATION_BITS) - 1)
    }

    pub(super) const fn outstanding(self) -> u32 {
        OUTSTANDING.of(self)
    }

    pub(super) const fn reserved(self) -> u32 {
        RESERVED.of(self)
    }

    pub(super) const fn succeeded(self) -> u32 {
        SUCCEEDED.of(self)
    }

    pub(super) const fn failed(self) -> u32 {
        FAILED.of(self)
    }

    /// Whether another probe may start, or be reserved.
    pub(super) const fn has_free_probe(self, probes: u32) -> bool {
        self.free_probes(probes) > 0
    }

    /// How many probes may still start, or be reserved.
    pub(super) const fn free_probes(self, probes: u32) -> u32 {
        let had = self.outstanding() + self.reserved() + self.succeeded() + self.failed();
        probes.saturating_sub(had)
    }

    pub(super) fn start_probe(self, probes: u32) -> Option<Gate> {
        self.has_free_probe(probes).then(|| OUTSTANDING.plus_one(self))
    }

    pub(super) fn reserve_probe(self, probes: u32) -> Option<Gate> {
        self.has_free_probe(probes).then(|| RESERVED.plus_one(self))
    }

    /// A reserved probe starts. `None` if the reservation has been reclaimed.
    pub(super) fn start_reserved(self) -> Option<Gate> {
        (self.reserved() > 0).then(|| OUTSTANDING.plus_one(RESERVED.minus_one(self)))
    }

    /// A reserved probe is not wanted. `None` if the reservation has been reclaimed.
    pub(super) fn give_back_reserved(self) -> Option<Gate> {
        (self.reserved() > 0).then(|| RESERVED.minus_one(self))
    }

    /// Takes back every reservation; for when their leases have run out.
    pub(super) const fn reclaim_reserved(self) -> Gate {
        Gate(self.0 & !(0xff << RESERVED.0))
    }

    pub(super) fn finish_probe(self, probe: Probe) -> Gate {
        debug_assert!(self.outstanding() > 0, "a probe that never started");
        let gate = OUTSTANDING.minus_one(self);
        match probe {
            Probe::Succeeded => SUCCEEDED.plus_one(gate),
            Probe::Failed => FAILED.plus_one(gate),
            Probe::GivenBack => gate,
        }
    }

    /// The decision, as soon as no outstanding probe can change it any more.
    ///
    /// `needed` of `probes` successes close the circuit.
    pub(super) const fn decision(self, probes: u32, needed: u32) -> Option<Decision> {
        if self.succeeded() >= needed {
            Some(Decision::Close)
        } else if self.failed() + needed > probes {
            Some(Decision::Reopen)
        } else {
            None
        }
    }
}

/// The least number of `whole` whose share reaches `ratio`. No rounding: the share is computed and
/// compared as a reader of the configuration would, so 7 of 100 reaches 0.07 (law 6).
pub(super) fn least_reaching(ratio: f64, whole: u32) -> u32 {
    let guess = (ratio * f64::from(whole)) as u32;
    let reaches = |part: u32| f64::from(part) / f64::from(whole) >= ratio;
    (guess.saturating_sub(1)..=whole).find(|part| *part > 0 && reaches(*part)).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let mut gate = Gate::new(State::HalfOpen, 0x1fff_ffff);
        for _ in 0..MAX_PROBES {
            gate = gate.start_probe(MAX_PROBES).unwrap();
        }
        assert_eq!(gate.start_probe(MAX_PROBES), None);
        for _ in 0..100 {
            gate = gate.finish_probe(Probe::Succeeded).finish_probe(Probe::Failed);
        }
        for _ in 0..50 {
            gate = gate.finish_probe(Probe::GivenBack).reserve_probe(MAX_PROBES).unwrap();
        }
        assert_eq!((gate.succeeded(), gate.failed()), (100, 100));
        assert_eq!((gate.outstanding(), gate.reserved()), (5, 50));
        assert_eq!((gate.state(), gate.generation()), (State::HalfOpen, 0x1fff_ffff));
        assert_eq!(gate.reclaim_reserved().reserved(), 0);
        assert_eq!(gate.next_generation(), 0);
    }

    #[test]
    fn states_survive_the_word() {
        for state in State::ALL {
            assert_eq!(Gate::new(state, 7).state(), state);
            assert_eq!(Gate::new(state, 7).is_closed(), state == State::Closed);
        }
    }

    #[test]
    fn law_06_shares_are_not_rounded() {
        assert_eq!(least_reaching(0.07, 100), 7);
        assert_eq!(least_reaching(0.5, 200), 100);
        assert_eq!(least_reaching(0.5, 3), 2);
        assert_eq!(least_reaching(1.0, 3), 3);
        assert_eq!(least_reaching(1e-9, 100), 1);
    }

    proptest! {
        #[test]
        fn law_06_least_reaching_is_the_least(ratio in 1e-6_f64..=1.0, whole in 1_u32..2000) {
            let least = least_reaching(ratio, whole);
            let naive = (1..=whole).find(|part| f64::from(*part) / f64::from(whole) >= ratio);
            prop_assert_eq!(Some(least), naive);
        }

        /// Decided as soon as it is certain, and not before: compared with trying every way in
        /// which the outstanding probes can still end.
        #[test]
        fn a_decision_is_made_exactly_when_it_is_certain(
            probes in 1_u32..=20,
            ratio in 0.01_f64..=1.0,
            outcomes in prop::collection::vec(any::<bool>(), 0..20),
        ) {
            let needed = least_reaching(ratio, probes);
            let mut gate = Gate::new(State::HalfOpen, 1);
            for success in outcomes.into_iter().take(probes as usize) {
                let probe = if success { Probe::Succeeded } else { Probe::Failed };
                gate = gate.start_probe(probes).unwrap().finish_probe(probe);
            }
            let left = probes - gate.succeeded() - gate.failed();
            let closes = |more: u32| gate.succeeded() + more >= needed;
            let certain = match (closes(0), closes(left)) {
                (true, _) => Some(Decision::Close),
                (_, false) => Some(Decision::Reopen),
                _ => None,
            };
            prop_assert_eq!(gate.decision(probes, needed), certain);
        }
    }
}
