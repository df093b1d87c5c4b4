//! The retry budget through its public interface.

use std::{thread, time::Duration};

use buttress::{FailureKind, Retry, RetryBudget, retry::RetryBudgetConfig};

fn budget(cap: f64, refill_per_second: f64) -> RetryBudget {
    RetryBudget::builder("b").cap(cap).refill_per_second(refill_per_second).build().unwrap()
}

#[test]
fn the_defaults() {
    let budget = RetryBudget::builder("payments").build().unwrap();
    assert_eq!(budget.name(), "payments");
    assert_eq!(
        format!("{:?}", budget.config()),
        "RetryBudgetConfig { ratio: 0.2, refill_per_second: 1.0, cap: 10.0, failed_cost: 1.0, \
         timed_out_cost: 2.0, throttled_cost: 1.0 }"
    );
    assert!((budget.tokens() - 10.0).abs() < 1e-9);
}

#[test]
fn each_rule_has_its_message() {
    type Change = fn(&mut RetryBudgetConfig);
    let cases: [(Change, &str); 11] = [
        (|c| c.ratio = f64::NAN, "ratio must be 0, or at least 0.000001 and at most 1, but is NaN"),
        (|c| c.ratio = -0.1, "ratio must be 0, or at least 0.000001 and at most 1, but is -0.1"),
        (|c| c.ratio = 1.5, "ratio must be 0, or at least 0.000001 and at most 1, but is 1.5"),
        (|c| c.ratio = 1e-7, "ratio must be 0, or at least 0.000001 and at most 1, but is 1e-7"),
        (
            |c| c.refill_per_second = f64::INFINITY,
            "refill_per_second must be 0, or at least 0.001 and at most 100000, but is inf",
        ),
        (
            |c| (c.ratio, c.refill_per_second) = (0.0, 0.0),
            "refill_per_second must be above 0 where the ratio is 0, but is 0.0",
        ),
        (|c| c.cap = 0.5, "cap must be at least 1 and at most 100000, but is 0.5"),
        (|c| c.cap = 100_001.0, "cap must be at least 1 and at most 100000, but is 100001.0"),
        (
            |c| c.failed_cost = 0.9,
            "failed_cost must be at least 1 and at most the cap 10.0, but is 0.9",
        ),
        (
            |c| c.timed_out_cost = 21.0,
            "timed_out_cost must be at least 1 and at most the cap 10.0, but is 21.0",
        ),
        (
            |c| c.throttled_cost = f64::NAN,
            "throttled_cost must be at least 1 and at most the cap 10.0, but is NaN",
        ),
    ];
    for (change, message) in cases {
        let mut config = RetryBudgetConfig::default();
        change(&mut config);
        let error = RetryBudget::from_config("orders", config).unwrap_err();
        assert_eq!(error.to_string(), format!("retry budget \"orders\": {message}"));
    }
}

#[tokio::test(start_paused = true)]
async fn law_07_a_quiet_day_banks_no_more_than_the_cap() {
    let budget = budget(3.0, 1.0);
    tokio::time::advance(Duration::from_secs(86_400)).await;
    (0..1000).for_each(|_| budget.deposit());
    let taken = (0..100).filter(|_| budget.try_withdraw(FailureKind::Failed)).count();
    assert_eq!(taken, 3);
}

#[tokio::test(start_paused = true)]
async fn time_refills_without_losing_a_millisecond() {
    let budget = budget(5.0, 1.0);
    while budget.try_withdraw(FailureKind::Failed) {}
    for _ in 0..999 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!budget.try_withdraw(FailureKind::Failed));
        assert!(!budget.peek(FailureKind::Failed));
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(budget.peek(FailureKind::Failed));
    assert!(budget.try_withdraw(FailureKind::Failed));
    assert!(!budget.try_withdraw(FailureKind::Failed));
}

#[test]
fn each_kind_of_failure_has_its_price() {
    let budget = RetryBudget::builder("b")
        .refill_per_second(0.0)
        .failed_cost(1.0)
        .timed_out_cost(2.0)
        .throttled_cost(3.5)
        .build()
        .unwrap();
    for (kind, left) in [
        (FailureKind::Failed, 9.0),
        (FailureKind::TimedOut, 7.0),
        (FailureKind::Throttled, 3.5),
        (FailureKind::Unreachable, 2.5),
    ] {
        assert!(budget.try_withdraw(kind));
        assert!((budget.tokens() - left).abs() < 1e-9, "{kind}: {}", budget.tokens());
    }
}

#[test]
fn law_07_threads_never_spend_a_token_twice() {
    // No refill, so that the sum is exact; a cap that deposits never reach.
    const ROUNDS: u32 = 20_000;
    const THREADS: u32 = 4;
    let budget = budget(20_000.0, 0.0);
    while budget.try_withdraw(FailureKind::Failed) {}
    let withdrawn: u32 = thread::scope(|scope| {
        let hammer = |seed: u32| {
            let mut withdrawn = 0;
            for round in 0..ROUNDS {
                budget.deposit();
                if (round ^ seed).is_multiple_of(3) && budget.try_withdraw(FailureKind::Failed) {
                    withdrawn += 1;
                }
            }
            withdrawn
        };
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || hammer(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let deposited = f64::from(THREADS * ROUNDS) * 0.2;
    assert!(withdrawn > 0);
    assert!(f64::from(withdrawn) <= deposited);
    assert!((f64::from(withdrawn) + budget.tokens() - deposited).abs() < 1e-6);
}

#[test]
fn law_07_a_full_budget_gives_out_no_more_than_its_cap_to_many_threads() {
    // Long enough that the threads really run at the same time, not one after the other; and more
    // than once, for a machine that has a single core to spare.
    const CAP: usize = 100_000;
    for _ in 0..3 {
        let budget = budget(CAP as f64, 0.0);
        let start = std::sync::Barrier::new(4);
        let withdrawn: usize = thread::scope(|scope| {
            let take_all = || {
                start.wait();
                (0..CAP).filter(|_| budget.try_withdraw(FailureKind::Failed)).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(withdrawn, CAP);
    }
}

#[test]
fn a_shared_budget_is_one_budget() {
    let shared = RetryBudget::builder("b").cap(1.0).timed_out_cost(1.0);
    let shared = shared.refill_per_second(0.0).build().unwrap();
    let one = Retry::builder("one").budget(shared).build().unwrap();
    let two = Retry::builder("two").budget(shared).build().unwrap();
    assert!(one.budget().unwrap().try_withdraw(FailureKind::Failed));
    assert!(!two.budget().unwrap().try_withdraw(FailureKind::Failed));
    assert_eq!(one.config().budget, Some(*shared.config()));
    let own = Retry::builder("three").build().unwrap();
    assert!(own.budget().unwrap().peek(FailureKind::Failed));
    assert_eq!(own.budget().unwrap().name(), "three");
    assert!(Retry::builder("four").without_budget().build().unwrap().budget().is_none());
}
