//! The whole breaker against a model written for obviousness: random calls, verdicts, drops,
//! waits, forces and resets; after every step both must say the same of everything.

use std::{collections::VecDeque, time::Duration};

use buttress::{
    Backoff, CircuitBreaker, CircuitBreakerConfig, Jitter, Verdict, Window,
    breaker::{Abandoned, OpenReason, Permit, SlowCalls, State},
};
use proptest::prelude::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    /// Finishes one of the calls under way, oldest first from this index on.
    Finish(usize, Verdict),
    Drop(usize),
    Wait(u64),
    ForceOpen(Option<u64>),
    ForceClosed(Option<u64>),
    Reset,
}

/// A call under way, as the model sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    life: u32,
    probe: bool,
    started: u64,
}

/// Whether somebody else keeps it closed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forced {
    No,
    Until(u64),
    UntilReset,
}

impl Forced {
    fn until(expiry: Option<u64>) -> Self {
        expiry.map_or(Forced::UntilReset, Forced::Until)
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Closed { calls: VecDeque<(u64, bool, bool)>, in_a_row: u32, forced: Forced },
    Open { until: Option<u64>, forced: bool },
    HalfOpen { outstanding: u32, sign_of_life: u64, succeeded: u32, failed: u32 },
}

struct Model {
    config: CircuitBreakerConfig,
    now: u64,
    life: u32,
    openings: u32,
    phase: Phase,
    reason: Option<OpenReason>,
}

impl Model {
    fn new(config: CircuitBreakerConfig) -> Self {
        let phase = Self::closed(Forced::No);
        Model { config, now: 0, life: 0, openings: 0, phase, reason: None }
    }

    fn closed(forced: Forced) -> Phase {
        Phase::Closed { calls: VecDeque::new(), in_a_row: 0, forced }
    }

    fn half_open() -> Phase {
        Phase::HalfOpen { outstanding: 0, sign_of_life: 0, succeeded: 0, failed: 0 }
    }

    fn enter(&mut self, phase: Phase) {
        self.life += 1;
        if matches!(phase, Phase::Closed { forced: Forced::No, .. }) {
            self.openings = 0;
        }
        self.phase = phase;
    }

    fn open(&mut self, at: u64, why: OpenReason) {
        let open_for = self.config.open_for.delay_unjittered(self.openings).as_millis() as u64;
        self.openings += 1;
        self.reason = Some(why);
        self.enter(Phase::Open { until: Some(at + open_for), forced: false });
    }

    /// What time alone has done.
    fn settle(&mut self) {
        loop {
            match self.phase {
                Phase::Open { until: Some(until), .. } if self.now >= until => {
                    self.enter(Self::half_open());
                }
                Phase::Closed { forced: Forced::Until(until), .. } if self.now >= until => {
                    self.enter(Self::closed(Forced::No));
                }
                Phase::HalfOpen { outstanding, sign_of_life, .. } if outstanding > 0 => {
                    let deadline = sign_of_life + self.config.half_open_for.as_millis() as u64;
                    if self.now < deadline {
                        return;
                    }
                    let probes = self.config.probes;
                    self.open(deadline, OpenReason::ProbesOverdue { outstanding, probes });
                }
                _ => return,
            }
        }
    }

    /// The model with what time has done, on a copy, because asking changes nothing.
    fn settled(&self) -> Model {
        let mut then = Model { phase: self.phase.clone(), ..*self };
        then.settle();
        then
    }

    /// What `state()` must say.
    fn state(&self) -> State {
        match self.settled().phase {
            Phase::Closed { forced: Forced::No, .. } => State::Closed,
            Phase::Closed { .. } => State::ForcedClosed,
            Phase::Open { forced: true, .. } => State::ForcedOpen,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn start(&mut self) -> Option<Call> {
        self.settle();
        let (now, life) = (self.now, self.life);
        match &mut self.phase {
            Phase::Closed { .. } => Some(Call { life, probe: false, started: now }),
            Phase::Open { .. } => None,
            Phase::HalfOpen { outstanding, sign_of_life, succeeded, failed } => {
                if *outstanding + *succeeded + *failed == self.config.probes {
                    return None;
                }
                if *outstanding == 0 {
                    *sign_of_life = now;
                }
                *outstanding += 1;
                Some(Call { life, probe: true, started: now })
            }
        }
    }

    fn finish(&mut self, call: Call, verdict: Verdict) {
        if call.probe {
            // Only a probe's outcome looks at the clock by itself; whatever else time has done is
            // noticed by the next call.
            self.settle();
        }
        if call.life != self.life {
            return;
        }
        let bad = matches!(
            verdict,
            Verdict::Transient | Verdict::Unreachable | Verdict::Throttled { .. } | Verdict::Final
        );
        let neutral = matches!(verdict, Verdict::Refused { .. } | Verdict::Ignored);
        let took = self.now - call.started;
        let slow = self.config.slow_calls.is_some_and(|s| took >= s.threshold.as_millis() as u64);
        if call.probe {
            self.finish_probe(bad || (slow && !neutral), neutral);
        } else if !neutral {
            self.count(bad, slow, matches!(verdict, Verdict::Throttled { .. }));
        }
    }

    fn finish_probe(&mut self, bad: bool, neutral: bool) {
        let probes = self.config.probes;
        let now = self.now;
        let Phase::HalfOpen { outstanding, sign_of_life, succeeded, failed } = &mut self.phase
        else {
            panic!("a probe of this life outside of half-open")
        };
        *outstanding -= 1;
        if neutral {
            return;
        }
        if *outstanding > 0 {
            *sign_of_life = now;
        }
        if bad {
            *failed += 1;
        } else {
            *succeeded += 1;
        }
        let reaches =
            |successes: u32| f64::from(successes) / f64::from(probes) >= self.config.success_ratio;
        let (succeeded, failed) = (*succeeded, *failed);
        if reaches(succeeded) {
            self.enter(Self::closed(Forced::No));
        } else if !reaches(probes - failed) {
            self.open(self.now, OpenReason::ProbesFailed { failed, probes });
        }
    }

    fn count(&mut self, bad: bool, slow: bool, throttled: bool) {
        let (now, config) = (self.now, self.config);
        let Phase::Closed { calls, in_a_row, forced } = &mut self.phase else {
            panic!("a call of this life while not closed")
        };
        calls.push_back((now, bad, slow));
        match config.window {
            Window::Calls(size) => {
                if calls.len() > size as usize {
                    calls.pop_front();
                }
            }
            Window::Time(length) => {
                let turn = |at: u64| at / (length.as_millis() as u64 / 10);
                calls.retain(|(at, ..)| turn(*at) + 10 > turn(now));
            }
            _ => unreachable!("no other windows"),
        }
        match (bad, throttled) {
            (false, _) => *in_a_row = 0,
            (true, true) => {}
            (true, false) => *in_a_row += 1,
        }
        let total = calls.len() as u32;
        let share = |part: u32, ratio: f64| {
            total >= config.min_calls && f64::from(part) / f64::from(total) >= ratio
        };
        let failures = calls.iter().filter(|(_, bad, _)| *bad).count() as u32;
        let slows = calls.iter().filter(|(.., slow)| *slow).count() as u32;
        let limit = config.failure_ratio as f32;
        let why = if bad && share(failures, config.failure_ratio) {
            OpenReason::FailureRatio { failures, calls: total, limit }
        } else if bad && !throttled && config.consecutive_failures.is_some_and(|n| *in_a_row >= n) {
            OpenReason::ConsecutiveFailures { failures: *in_a_row }
        } else if slow && config.slow_calls.is_some_and(|s| share(slows, s.ratio)) {
            let limit = config.slow_calls.unwrap().ratio as f32;
            OpenReason::SlowRatio { slow: slows, calls: total, limit }
        } else {
            return;
        };
        if *forced == Forced::No {
            self.open(now, why);
        }
    }

    fn drop_call(&mut self, call: Call) {
        let age = u128::from(self.now - call.started);
        let late = self.config.abandoned_after.is_some_and(|after| age >= after.as_millis());
        let failure = self.config.abandoned == Abandoned::Failure || late;
        self.finish(call, if failure { Verdict::Transient } else { Verdict::Ignored });
    }

    fn force(&mut self, phase: Phase) {
        self.settle();
        if matches!(phase, Phase::Open { .. }) {
            self.reason = Some(OpenReason::Forced);
        }
        self.enter(phase);
    }
}

fn config() -> impl Strategy<Value = CircuitBreakerConfig> {
    let window = prop_oneof![
        (1_u32..12).prop_map(Window::Calls),
        (1_u64..20).prop_map(|tens| Window::Time(ms(tens * 100))),
    ];
    let conditions = (
        prop_oneof![Just(0.5), Just(1.0), 0.05_f64..=1.0],
        1_u32..8,
        prop::option::of(1_u32..5),
        prop::option::of((1_u64..300, 0.1_f64..=1.0)),
    );
    let open = (1_u64..500, 1.0_f64..3.0, 1_u64..3000);
    let probes = (1_u32..5, 0.05_f64..=1.0, 1_u64..1500);
    let abandoned = prop_oneof![
        Just((Abandoned::Ignore, None)),
        Just((Abandoned::Failure, None)),
        (1_u64..400).prop_map(|after| (Abandoned::Ignore, Some(ms(after)))),
    ];
    (window, conditions, open, probes, abandoned).prop_map(
        |(window, conditions, open, probes, abandoned)| {
            let mut config = CircuitBreakerConfig::default();
            config.window = window;
            config.failure_ratio = conditions.0;
            config.min_calls = match window {
                Window::Calls(size) => conditions.1.min(size),
                _ => conditions.1,
            };
            config.consecutive_failures = conditions.2;
            config.slow_calls =
                conditions.3.map(|(after, ratio)| SlowCalls { threshold: ms(after), ratio });
            config.open_for = Backoff::exponential(ms(open.0))
                .factor(open.1.floor())
                .max(ms(open.0 + open.2))
                .jitter(Jitter::None);
            config.probes = probes.0;
            config.success_ratio = probes.1;
            config.half_open_for = ms(probes.2);
            (config.abandoned, config.abandoned_after) = abandoned;
            config
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        5 => Just(Verdict::Success),
        5 => Just(Verdict::Transient),
        1 => Just(Verdict::Unreachable),
        1 => Just(Verdict::Final),
        1 => Just(Verdict::Permanent),
        1 => Just(Verdict::Throttled { retry_after: None }),
        1 => Just(Verdict::Refused { retry_after: None }),
        1 => Just(Verdict::Ignored),
    ];
    let expiry = || prop::option::of(1_u64..2000);
    prop_oneof![
        30 => Just(Step::Start),
        30 => (0_usize..4, verdict).prop_map(|(index, verdict)| Step::Finish(index, verdict)),
        4 => (0_usize..4).prop_map(Step::Drop),
        6 => (1_u64..100).prop_map(Step::Wait),
        4 => (100_u64..3000).prop_map(Step::Wait),
        1 => expiry().prop_map(Step::ForceOpen),
        1 => expiry().prop_map(Step::ForceClosed),
        1 => Just(Step::Reset),
    ]
}

async fn run(config: CircuitBreakerConfig, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let breaker = CircuitBreaker::from_config("model", config).unwrap();
    let mut model = Model::new(config);
    let mut calls: Vec<(Permit, Call)> = Vec::new();
    for step in steps {
        match step {
            Step::Start => match (breaker.try_acquire(), model.start()) {
                (Ok(permit), Some(call)) => calls.push((permit, call)),
                (Err(error), None) => prop_assert_eq!(error.open_reason(), model.reason),
                (real, expected) => prop_assert!(false, "{:?}, not {:?}", real, expected),
            },
            Step::Finish(index, verdict) if !calls.is_empty() => {
                let (permit, call) = calls.remove(index % calls.len());
                permit.record(verdict);
                model.finish(call, verdict);
            }
            Step::Drop(index) if !calls.is_empty() => {
                let (permit, call) = calls.remove(index % calls.len());
                drop(permit);
                model.drop_call(call);
            }
            Step::Wait(wait) => {
                tokio::time::advance(ms(wait)).await;
                model.now += wait;
            }
            Step::ForceOpen(expiry) => {
                breaker.force_open("model", expiry.map(ms));
                let until = expiry.map(|expiry| model.now + expiry);
                model.force(Phase::Open { until, forced: true });
            }
            Step::ForceClosed(expiry) => {
                breaker.force_closed("model", expiry.map(ms));
                let until = expiry.map(|expiry| model.now + expiry);
                model.force(Model::closed(Forced::until(until)));
            }
            Step::Reset => {
                breaker.reset();
                model.force(Model::closed(Forced::No));
            }
            Step::Finish(..) | Step::Drop(_) => {}
        }
        let snapshot = breaker.snapshot();
        prop_assert_eq!(snapshot.state, model.state(), "after {:?}", step);
        prop_assert_eq!(breaker.state(), snapshot.state);
        prop_assert_eq!(snapshot.generation, model.life);
        if let Phase::Closed { calls, in_a_row, .. } = &model.settled().phase
            && let Window::Calls(_) = config.window
        {
            let failures = calls.iter().filter(|(_, bad, _)| *bad).count();
            prop_assert_eq!(snapshot.calls as usize, calls.len());
            prop_assert_eq!(snapshot.failures as usize, failures);
            if config.consecutive_failures.is_some() {
                prop_assert_eq!(snapshot.consecutive_failures, *in_a_row);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn the_breaker_equals_its_model(
        config in config(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(config, steps))?;
    }
}
