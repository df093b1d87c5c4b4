//! Requests that must not be executed twice: what a retry and a backup make of them.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    CircuitBreaker, CloneRequest, Error, Fallback, Repeats, Retry, Stack, Timeout, Verdict,
    classify_fn,
};
use tower::{Layer, Service, ServiceExt, service_fn};

type Failure = Error<&'static str>;
type Outcome = Result<&'static str, Failure>;

const UNREACHABLE: Outcome = Err(Error::Service("connection refused"));
const RESET: Outcome = Err(Error::Service("connection reset"));
const THROTTLED: Outcome = Err(Error::Service("slow down"));
const PAID: Outcome = Ok("paid");

/// Copies requests, and says of each whether it may be repeated; counts the copies.
#[derive(Clone)]
struct Payments {
    repeats: Repeats,
    copies: Arc<AtomicUsize>,
}

fn payments(repeats: Repeats) -> Payments {
    Payments { repeats, copies: Arc::default() }
}

impl CloneRequest<&'static str> for Payments {
    fn clone_request(&self, request: &&'static str) -> Option<&'static str> {
        self.copies.fetch_add(1, Ordering::Relaxed);
        Some(*request)
    }

    fn repeats(&self, _: &&'static str) -> Repeats {
        self.repeats
    }
}

/// Gives these outcomes, of its calls and in between of its readiness.
#[derive(Clone)]
struct Script {
    outcomes: Arc<[Outcome]>,
    calls: Arc<AtomicUsize>,
    /// The readiness before this call fails, once; the call is made all the same.
    unready: Arc<AtomicUsize>,
}

fn script(outcomes: impl Into<Arc<[Outcome]>>) -> Script {
    let unready = Arc::new(AtomicUsize::new(usize::MAX));
    Script { outcomes: outcomes.into(), calls: Arc::default(), unready }
}

impl Script {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Service<&'static str> for Script {
    type Response = &'static str;
    type Error = Failure;
    type Future = Ready<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let fails = self.unready.compare_exchange(
            self.calls(),
            usize::MAX,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        Poll::Ready(fails.map_or(Ok(()), |_| Err(Error::Service("not ready"))))
    }

    fn call(&mut self, _: &'static str) -> Ready<Outcome> {
        ready(self.outcomes[self.calls.fetch_add(1, Ordering::Relaxed)])
    }
}

fn classify(outcome: Result<&&'static str, &Failure>) -> Verdict {
    match outcome {
        Ok(_) => Verdict::Success,
        Err(error) if *error == UNREACHABLE.unwrap_err() => Verdict::Unreachable,
        Err(error) if *error == THROTTLED.unwrap_err() => Verdict::Throttled { retry_after: None },
        Err(_) => Verdict::Transient,
    }
}

/// The outcome, calls made, copies taken, and operations that ended as they must not repeat.
async fn retried(script: Script, repeats: Repeats) -> (Outcome, usize, usize, u64) {
    let retry = Retry::builder("payments").max_attempts(3).build().unwrap();
    let payments = payments(repeats);
    let layer = retry.layer().classify(classify_fn(classify)).clone_with(payments.clone());
    let outcome = layer.layer(script.clone()).oneshot("pay").await;
    let copies = payments.copies.load(Ordering::Relaxed);
    (outcome, script.calls(), copies, retry.counts().not_idempotent)
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_repeated_only_while_it_has_reached_nobody() {
    use Repeats::{Always, IfUnsent, Never};
    assert_eq!(retried(script([RESET, RESET, PAID]), Always).await, (PAID, 3, 2, 0));

    assert_eq!(retried(script([UNREACHABLE, PAID]), IfUnsent).await, (PAID, 2, 2, 0));
    assert_eq!(retried(script([RESET, PAID]), IfUnsent).await, (RESET, 1, 1, 1));
    assert_eq!(retried(script([THROTTLED, PAID]), IfUnsent).await, (THROTTLED, 1, 1, 1));
    assert_eq!(retried(script([UNREACHABLE, RESET, PAID]), IfUnsent).await, (RESET, 2, 2, 1));
    let never_there = script([UNREACHABLE, UNREACHABLE, UNREACHABLE]);
    assert_eq!(retried(never_there, IfUnsent).await, (UNREACHABLE, 3, 2, 0));

    // No copy is taken that could not be sent.
    assert_eq!(retried(script([UNREACHABLE, PAID]), Never).await, (UNREACHABLE, 1, 0, 1));
    assert_eq!(retried(script([PAID]), Never).await, (PAID, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_never_made_has_reached_nobody() {
    let script = script([UNREACHABLE, PAID]);
    script.unready.store(1, Ordering::Relaxed); // fails before the second call
    // It was an attempt all the same, so the one after it is the last and needs no copy.
    assert_eq!(retried(script, Repeats::IfUnsent).await, (PAID, 2, 1, 0));
}

/// The outcome, calls of the backup, and the counts of a fallback over this primary.
async fn backed_up<S>(primary: S, repeats: Repeats) -> (Outcome, usize, (u64, u64, u64))
where
    S: Service<&'static str, Response = &'static str, Error = Failure>,
{
    let fallback = Fallback::builder("payments").build().unwrap();
    let backup = script([Ok("paid by the backup")]);
    let layer = Stack::classified(classify_fn(classify))
        .clone_with(payments(repeats))
        .named_fallback_to(fallback, backup.clone());
    let outcome = layer.service(primary).oneshot("pay").await;
    let counts = fallback.counts();
    (outcome, backup.calls(), (counts.degraded, counts.uncloneable, counts.not_idempotent))
}

#[tokio::test(start_paused = true)]
async fn a_backup_gets_a_payment_only_if_the_primary_cannot_have_made_it() {
    use Repeats::{Always, IfUnsent, Never};
    let by_backup = Ok("paid by the backup");
    assert_eq!(backed_up(script([RESET]), Always).await, (by_backup, 1, (1, 0, 0)));

    assert_eq!(backed_up(script([UNREACHABLE]), IfUnsent).await, (by_backup, 1, (1, 0, 0)));
    assert_eq!(backed_up(script([RESET]), IfUnsent).await, (RESET, 0, (0, 0, 1)));
    assert_eq!(backed_up(script([UNREACHABLE]), Never).await, (UNREACHABLE, 0, (0, 1, 0)));
    let unready = script([PAID]);
    unready.unready.store(0, Ordering::Relaxed); // then it is not even called
    assert_eq!(backed_up(unready, IfUnsent).await, (by_backup, 1, (1, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_backup_gets_a_payment_that_a_policy_refused_but_not_one_that_timed_out() {
    let breaker = CircuitBreaker::builder("payments").build().unwrap();
    breaker.force_open("maintenance", None);
    let refused = breaker.layer().layer(script([PAID]));
    let (outcome, calls, counts) = backed_up(refused, Repeats::IfUnsent).await;
    assert_eq!((outcome, calls, counts), (Ok("paid by the backup"), 1, (1, 0, 0)));

    let hangs = service_fn(|_: &'static str| std::future::pending::<Outcome>());
    let (limit, hurry) = (Duration::from_secs(1), Duration::from_millis(1));
    // A limit of the caller's own is a refusal as well, but one that came after the call.
    for own in [limit, hurry] {
        let timeout = Timeout::after(limit).layer().per_request(move |_: &&'static str| Some(own));
        let (outcome, calls, counts) = backed_up(timeout.layer(hangs), Repeats::IfUnsent).await;
        assert!(outcome.is_err());
        assert_eq!((calls, counts), (0, (0, 0, 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_backup_of_a_standard_stack_gets_what_that_stack_would_repeat() {
    use Repeats::{Always, IfUnsent};
    for (primary, repeats, expected) in
        [(RESET, Always, 1), (RESET, IfUnsent, 0), (UNREACHABLE, IfUnsent, 1)]
    {
        let standard = buttress::Standard::builder("payments").retry(None).build().unwrap();
        let backup = script([Ok("paid by the backup")]);
        let layer = standard.layer().classify(classify_fn(classify)).clone_with(payments(repeats));
        let layer = layer.fallback_to(backup.clone());
        let _ = layer.layer(script([primary])).oneshot("pay").await;
        assert_eq!(backup.calls(), expected, "{primary:?} {repeats:?}");
    }
}
