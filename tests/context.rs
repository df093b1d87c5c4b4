//! Deadlines and attempts, told from layer to layer.

use std::{
    future::{pending, ready},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, CallContext, CarryContext, CircuitBreaker, CloneRequest, Error, Jitter,
    PolicyErrorKind, Repeats, Retry, ServiceErrors, Stack, StackError, TaskContext, Timeout,
    breaker::State, retry::RetryBuilder,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

type Failure = Error<&'static str>;
type Outcome = Result<(), Failure>;

const FAILED: Outcome = Err(Error::Service("failed"));

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A request with room for its context.
#[derive(Clone, Copy, Debug, Default)]
struct Query {
    context: CallContext,
}

impl Query {
    fn due_in(time: Duration) -> Self {
        Query { context: CallContext::new().due_in(time) }
    }
}

#[derive(Clone, Copy)]
struct InTheQuery;

impl CarryContext<Query> for InTheQuery {
    type Future<F: Future> = F;

    fn context(&self, query: &Query) -> CallContext {
        query.context
    }

    fn carry<F: Future>(&self, context: CallContext, _: Query, call: impl FnOnce(Query) -> F) -> F {
        call(Query { context })
    }
}

/// What a service was told, call by call: the time left in milliseconds, and the attempt.
type Told = Arc<Mutex<Vec<(Option<u128>, Option<u32>)>>>;

fn note(told: &Told, context: CallContext) {
    let left = context.time_left().map(|left| left.as_millis());
    told.lock().unwrap().push((left, context.attempt.map(NonZeroU32::get)));
}

fn taken(told: &Told) -> Vec<(Option<u128>, Option<u32>)> {
    std::mem::take(&mut told.lock().unwrap())
}

/// Three attempts, 100 ms apart.
fn retry(name: &'static str) -> RetryBuilder {
    let backoff = Backoff::constant(ms(100)).jitter(Jitter::None);
    Retry::builder(name).max_attempts(3).backoff(backoff)
}

fn kind(outcome: &Outcome) -> Option<PolicyErrorKind> {
    outcome.as_ref().err()?.policy_error().map(buttress::PolicyError::kind)
}

#[tokio::test(start_paused = true)]
async fn a_timeout_draws_the_deadline_nearer_and_never_further_out() {
    let told = Told::default();
    let seen = Arc::clone(&told);
    let mut service = Timeout::after(ms(500)).layer().context(InTheQuery).layer(service_fn(
        move |query: Query| {
            note(&seen, query.context);
            ready(Outcome::Ok(()))
        },
    ));
    for query in [Query::default(), Query::due_in(ms(900)), Query::due_in(ms(200))] {
        service.ready().await.unwrap().call(query).await.unwrap();
    }
    assert_eq!(taken(&told), [(Some(500), None), (Some(500), None), (Some(200), None)]);
    // A time that the clock cannot hold is no deadline.
    let forever = Timeout::after(Duration::MAX).layer().context(InTheQuery);
    let seen = Arc::clone(&told);
    let forever = forever.layer(service_fn(move |query: Query| {
        note(&seen, query.context);
        ready(Outcome::Ok(()))
    }));
    forever.clone().oneshot(Query::default()).await.unwrap();
    forever.oneshot(Query::due_in(ms(200))).await.unwrap();
    assert_eq!(taken(&told), [(None, None), (Some(200), None)]);
}

#[tokio::test(start_paused = true)]
async fn law_09_the_callers_deadline_cuts_an_attempt_short_and_trips_nothing() {
    let breaker = CircuitBreaker::builder("patient").min_calls(2).build().unwrap();
    let mut service = Stack::new()
        .context(InTheQuery)
        .breaker(breaker)
        .timeout(ms(500))
        .service(service_fn(|_: Query| pending::<Outcome>()));
    for _ in 0..100 {
        let start = Instant::now();
        let outcome = service.ready().await.unwrap().call(Query::due_in(ms(200))).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the caller's own limit of 201ms elapsed");
        // A tick of the timer later, so that whoever set the deadline could have spoken first.
        assert_eq!(start.elapsed(), ms(201));
    }
    assert_eq!((breaker.state(), breaker.snapshot().failures), (State::Closed, 0));
    // Its own limit is another matter.
    for _ in 0..2 {
        service.ready().await.unwrap().call(Query::due_in(ms(900))).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
}

/// A request may be allowed more than the timeout itself; its caller may be in a hurry all the same.
#[tokio::test(start_paused = true)]
async fn law_09_a_long_limit_of_a_request_that_the_deadline_cuts_short_trips_nothing() {
    let breaker = CircuitBreaker::builder("batches").consecutive_failures(1).build().unwrap();
    let timeout = Timeout::after(ms(500)).layer().per_request(|_: &Query| Some(ms(9_000)));
    let timeout = timeout.context(InTheQuery);
    let mut service =
        breaker.layer().layer(timeout.layer(service_fn(|_: Query| pending::<Outcome>())));
    let outcome = service.ready().await.unwrap().call(Query::due_in(ms(2_000))).await;
    assert_eq!(outcome.unwrap_err().to_string(), "the caller's own limit of 2.001s elapsed");
    assert_eq!(breaker.state(), State::Closed);
    // What it was allowed has passed: that is the service's failure.
    service.ready().await.unwrap().call(Query::due_in(ms(10_000))).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn law_09_a_call_after_its_deadline_is_refused_and_touches_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let breaker = CircuitBreaker::builder("late").min_calls(1).probes(1).build().unwrap();
    let timeout = Timeout::builder("late").after(ms(500)).min_remaining(ms(20)).build().unwrap();
    let mut service = Stack::new().context(InTheQuery).breaker(breaker).timeout(timeout).service(
        service_fn(move |_: Query| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(Outcome::Ok(()))
        }),
    );
    let late = Query::due_in(ms(50));
    advance(ms(50)).await;
    // Half-open: each refusal gives the only probe back.
    breaker.force_open("test", Some(ms(10)));
    advance(ms(11)).await;
    for _ in 0..5 {
        let refused = service.ready().await.unwrap().call(late).await;
        assert_eq!(kind(&refused), Some(PolicyErrorKind::DeadlineTooShort), "{refused:?}");
        let error = refused.unwrap_err();
        assert_eq!(error.to_string(), "the caller's deadline has passed");
        assert!(!error.policy_error().unwrap().reached_service());
    }
    let short = service.ready().await.unwrap().call(Query::due_in(ms(19))).await.unwrap_err();
    let text = "the caller's deadline is too short: 19ms left, 20ms needed";
    assert_eq!(short.to_string(), text);
    assert_eq!(short.policy_error().unwrap().time_left(), Some(ms(19)));
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    service.ready().await.unwrap().call(Query::due_in(ms(20))).await.unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), breaker.state()), (1, State::Closed));
}

#[test]
fn a_call_cannot_need_more_time_than_it_may_take() {
    let error = Timeout::builder("t").after(ms(5)).min_remaining(ms(6)).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "timeout \"t\": min_remaining must be at most `after`, or every call with a deadline would \
         be refused, but is 6ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_given_once_and_readiness_is_included_where_told() {
    let ready_too = Timeout::after(ms(500)).layer().context(InTheQuery).including_readiness();
    let service = ready_too.layer(service_fn(|query: Query| {
        assert_eq!(query.context.time_left(), Some(ms(100)));
        pending::<Outcome>()
    }));
    let outcome = service.oneshot(Query::due_in(ms(100))).await;
    assert_eq!(kind(&outcome), Some(PolicyErrorKind::TimedOut));
    let mut refused = Box::pin(service.clone().call(Query::due_in(ms(0))));
    let outcome = futures::poll!(&mut refused);
    assert!(outcome.is_ready());
    let again = std::panic::AssertUnwindSafe(async move { futures::poll!(&mut refused) });
    assert!(futures::FutureExt::catch_unwind(again).await.is_err(), "polled after it was ready");
}

#[tokio::test(start_paused = true)]
async fn law_09_no_attempt_and_no_backoff_that_cannot_finish() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let policy = retry("hurried").build().unwrap();
    let mut service =
        Stack::new().context(InTheQuery).retry(policy).service(service_fn(move |_: Query| {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                sleep(ms(50)).await;
                FAILED
            }
        }));
    // Attempts at 0 and 150 ms; the third, at 300, would begin with the deadline.
    let start = Instant::now();
    let outcome = service.ready().await.unwrap().call(Query::due_in(ms(300))).await;
    assert_eq!((outcome, start.elapsed()), (FAILED, ms(200)));
    assert_eq!((calls.swap(0, Ordering::Relaxed), policy.counts().out_of_time), (2, 1));
    let outcome = service.ready().await.unwrap().call(Query::due_in(ms(301))).await;
    assert_eq!((outcome, calls.load(Ordering::Relaxed)), (FAILED, 3));
    assert_eq!(policy.counts().out_of_time, 1);
}

#[tokio::test(start_paused = true)]
async fn law_09_a_retry_waits_for_readiness_no_longer_than_the_deadline() {
    let policy = retry("queued").build().unwrap();
    let limited = tower::limit::ConcurrencyLimit::new(
        service_fn(|query: Query| async move {
            if query.context.deadline.is_none() {
                sleep(Duration::from_secs(60)).await;
            }
            FAILED
        }),
        1,
    );
    let service = Stack::new().context(InTheQuery).retry(policy).service(limited.clone());
    let mut failing = Box::pin(service.oneshot(Query::due_in(ms(400))));
    assert!(futures::poll!(&mut failing).is_pending());
    // Another call has the only place while this one waits out its backoff.
    let other = tokio::spawn(limited.oneshot(Query::default()));
    let start = Instant::now();
    assert_eq!(failing.await, FAILED);
    assert_eq!((start.elapsed(), policy.counts().out_of_time), (ms(400), 1));
    other.abort();
}

#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_and_a_retry_below_makes_one() {
    let told = Told::default();
    let seen = Arc::clone(&told);
    let (above, below) = (retry("above").build().unwrap(), retry("below").build().unwrap());
    let service = Stack::new().context(InTheQuery).retry(above).retry(below).service(service_fn(
        move |query: Query| {
            note(&seen, query.context);
            ready(FAILED)
        },
    ));
    assert_eq!(service.clone().oneshot(Query::default()).await, FAILED);
    assert_eq!(taken(&told), [(None, Some(1)), (None, Some(2)), (None, Some(3))]);
    assert_eq!((above.counts().retried, above.counts().exhausted), (2, 1));
    assert_eq!((below.counts().retried, below.counts().retried_above), (0, 3));

    // Told so from further up, neither of the two repeats anything, and the number stays as it is.
    let query = Query { context: CallContext::new().attempt(7) };
    assert_eq!(service.oneshot(query).await, FAILED);
    assert_eq!(taken(&told), [(None, Some(7))]);
    assert_eq!((above.counts().retried_above, below.counts().retried_above), (1, 4));
}

/// Copies requests that may not be repeated once they may have been executed.
#[derive(Clone)]
struct IfUnsent;

impl CloneRequest<Query> for IfUnsent {
    fn clone_request(&self, query: &Query) -> Option<Query> {
        Some(*query)
    }

    fn repeats(&self, _: &Query) -> Repeats {
        Repeats::IfUnsent
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_repeats_everything_says_so() {
    let told = Told::default();
    let note_it = |told: &Told| {
        let seen = Arc::clone(told);
        service_fn(move |query: Query| {
            note(&seen, query.context);
            ready(FAILED)
        })
    };
    let once = Retry::builder("once").max_attempts(1).build().unwrap();
    let service = Stack::new().context(InTheQuery).retry(once).service(note_it(&told));
    service.oneshot(Query::default()).await.unwrap_err();
    let policy = retry("payments").build().unwrap();
    let stack = || Stack::new().context(InTheQuery);
    let service = stack().clone_with(IfUnsent).retry(policy).service(note_it(&told));
    service.oneshot(Query::default()).await.unwrap_err();
    let service = stack().clone_with(|_: &Query| None).retry(policy).service(note_it(&told));
    service.oneshot(Query::default()).await.unwrap_err();
    assert_eq!(taken(&told), [(None, None); 3]);
    // With an empty budget it has decided that nobody should.
    let poor = retry("poor").build().unwrap();
    while poor.budget().unwrap().try_withdraw(buttress::FailureKind::Failed) {}
    let service = stack().retry(poor).service(note_it(&told));
    service.oneshot(Query::default()).await.unwrap_err();
    assert_eq!(taken(&told), [(None, Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn the_task_carries_it_through_every_poll_and_attempt() {
    let told = Told::default();
    let seen = Arc::clone(&told);
    let policy = retry("task").build().unwrap();
    let service = Stack::new()
        .context(TaskContext)
        .timeout(ms(1000))
        .retry(policy)
        .timeout(ms(500))
        .layer(ServiceErrors)
        .service(service_fn(move |(): ()| {
            let seen = Arc::clone(&seen);
            note(&seen, CallContext::current()); // in the call
            async move {
                sleep(ms(100)).await;
                note(&seen, CallContext::current()); // in a later poll
                Err::<(), _>("failed")
            }
        }));
    assert_eq!(service.clone().oneshot(()).await, FAILED);
    let attempts = [500, 400, 500, 400, 500, 400].into_iter().zip([1, 1, 2, 2, 3, 3]);
    let attempts: Vec<_> = attempts.map(|(left, n)| (Some(left), Some(n))).collect();
    assert_eq!(taken(&told), attempts);
    assert_eq!(CallContext::current(), CallContext::new());

    // And from whatever runs above, such as a server's handler: what it may take, and that it is
    // being retried.
    let handler = CallContext::new().due_in(ms(300)).attempt(2).scope(service.oneshot(()));
    assert_eq!(handler.await, FAILED);
    assert_eq!(taken(&told), [(Some(300), Some(2)), (Some(200), Some(2))]);
    assert_eq!(policy.counts().retried_above, 1);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_that_set_the_deadline_is_the_one_to_say_so() {
    let (whole, attempt) = (Timeout::builder("whole"), Timeout::builder("attempt"));
    let breaker = CircuitBreaker::builder("hangs").min_calls(2).build().unwrap();
    let service = Stack::new()
        .context(TaskContext)
        .timeout(whole.after(ms(700)).build().unwrap())
        .retry(retry("whole").build().unwrap())
        .breaker(breaker)
        .timeout(attempt.after(ms(500)).build().unwrap())
        .service(service_fn(|(): ()| pending::<Outcome>()));
    let outcome = service.oneshot(()).await;
    assert_eq!(outcome.unwrap_err().to_string(), r#"timeout "whole" elapsed after 700ms"#);
    assert_eq!(breaker.snapshot().failures, 1);

    // Also where a busy runtime polls the call late.
    let mut service = Stack::new()
        .context(TaskContext)
        .timeout(Timeout::builder("late").after(ms(700)).build().unwrap())
        .retry(retry("late").build().unwrap())
        .timeout(ms(500))
        .service(service_fn(|(): ()| pending::<Outcome>()));
    let call = service.ready().await.unwrap().call(());
    sleep(ms(100)).await;
    let start = Instant::now();
    assert_eq!(call.await.unwrap_err().to_string(), r#"timeout "late" elapsed after 700ms"#);
    assert_eq!(start.elapsed(), ms(600));

    // Of two of the same duration the inner one has timed out, or no breaker would ever see it.
    let breaker = CircuitBreaker::builder("hangs as long").min_calls(2).build().unwrap();
    let stack = Stack::new().context(TaskContext).timeout(ms(500)).breaker(breaker);
    let service = stack.timeout(ms(500)).service(service_fn(|(): ()| pending::<Outcome>()));
    assert_eq!(kind(&service.oneshot(()).await), Some(PolicyErrorKind::TimedOut));
    assert_eq!(breaker.snapshot().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_carrier_nothing_is_read_and_nothing_told() {
    let policy = retry("deaf").build().unwrap();
    let service = Stack::new().timeout(ms(1000)).retry(policy).service(service_fn(|(): ()| {
        assert_eq!(CallContext::current(), CallContext::new().attempt(1));
        ready(FAILED)
    }));
    let outcome = CallContext::new().attempt(1).scope(service.oneshot(())).await;
    assert_eq!((outcome, policy.counts().retried), (FAILED, 2));
}

#[test]
fn a_carrier_of_nothing_adds_no_byte_and_needs_no_runtime() {
    let inner = service_fn(|(): ()| ready(Outcome::Ok(())));
    let mut timeout = Timeout::after(ms(5)).layer().layer(inner);
    let future = timeout.call(());
    assert_eq!(futures::FutureExt::now_or_never(future), Some(Ok(())));
    let with = Timeout::after(ms(5)).layer().context(InTheQuery);
    assert_eq!(size_of_val(&with), size_of_val(&Timeout::after(ms(5)).layer()));
}
