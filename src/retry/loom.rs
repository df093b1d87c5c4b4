//! Models of the retry budget, each explored by loom in every order of its threads' steps: no token
//! is spent twice, none is lost, and there are never more than the cap.
//!
//! Built with `--cfg buttress_loom`. Without a refill, so that the clock does not matter.

use ::loom::thread;

use super::RetryBudget;
use crate::{
    FailureKind,
    sync::{model, model_of_two},
};

/// A budget that holds `tokens`, and half of one more with each success.
fn budget(cap: f64, tokens: f64) -> RetryBudget {
    let builder = RetryBudget::builder("loom").cap(cap).timed_out_cost(cap);
    let budget = builder.ratio(0.5).refill_per_second(0.0).build().unwrap();
    assert!(budget.try_withdraw(FailureKind::TimedOut), "all there is");
    while budget.tokens() < tokens {
        budget.deposit();
    }
    budget
}

fn withdraw(budget: RetryBudget) -> bool {
    budget.try_withdraw(FailureKind::Failed)
}

fn holds(budget: RetryBudget, tokens: f64) {
    let stored = budget.stored();
    assert!((stored - tokens).abs() < 1e-9, "{stored} instead of {tokens}");
}

#[test]
fn law_07_one_token_is_spent_once() {
    model_of_two(|two| {
        let budget = budget(1.0, 1.0);
        let (one, other) = two.run(move || withdraw(budget), move || withdraw(budget));
        assert!(one ^ other, "exactly one gets it");
        holds(budget, 0.0);
    });
}

#[test]
fn two_deposits_are_both_kept() {
    model_of_two(|two| {
        let budget = budget(2.0, 0.0);
        two.run(move || budget.deposit(), move || budget.deposit());
        holds(budget, 1.0);
    });
}

#[test]
fn law_07_two_deposits_stop_at_the_cap() {
    model_of_two(|two| {
        let budget = budget(1.0, 0.5);
        two.run(move || budget.deposit(), move || budget.deposit());
        holds(budget, 1.0);
    });
}

#[test]
fn a_deposit_and_a_withdrawal_lose_nothing() {
    model_of_two(|two| {
        let budget = budget(2.0, 1.0);
        let ((), taken) = two.run(move || budget.deposit(), move || withdraw(budget));
        assert!(taken, "there was enough before and after the deposit");
        holds(budget, 0.5);
    });
}

#[test]
fn a_deposit_into_a_full_budget_neither_loses_nor_prevents_a_withdrawal() {
    model_of_two(|two| {
        let budget = budget(1.0, 1.0);
        let ((), taken) = two.run(move || budget.deposit(), move || withdraw(budget));
        assert!(taken);
        // The deposit came first, and there was no room for it; or after.
        let tokens = budget.tokens();
        holds(budget, if tokens < 0.25 { 0.0 } else { 0.5 });
    });
}

#[test]
fn law_07_a_token_completed_meanwhile_is_spent_once() {
    model(|| {
        let budget = budget(2.0, 0.5);
        let withdrawals = [(); 2].map(|()| thread::spawn(move || withdraw(budget)));
        budget.deposit();
        let taken = withdrawals.map(|thread| thread.join().unwrap());
        assert!(taken != [true, true], "one token for two");
        holds(budget, if taken == [false, false] { 1.0 } else { 0.0 });
    });
}
