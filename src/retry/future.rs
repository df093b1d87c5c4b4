use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{task::coop::Unconstrained, time::Sleep};
use tower_service::Service;

use super::{
    PrepareRequest,
    operation::{Deadline, Next, Operation, Stop, sleep},
};
use crate::{
    context::{CallContext, Carrier, NoContext},
    error::StackError,
    request::{CloneRequest, Repeats},
    verdict::{Classify, Verdict},
};

pin_project! {
    /// The future of [`RetryService`](super::RetryService).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the attempt under way and makes no other. What the budget paid for an
    /// attempt that has begun is not paid back; nothing is paid before.
    ///
    /// # Panics
    ///
    /// When it comes to wait outside of a tokio runtime with time enabled, and when it is polled
    /// again after it was done.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RetryFuture<S, Req, C, K, P, X = NoContext>
    where
        S: Service<Req>,
        X: Carrier<Req>,
    {
        // The instance every attempt is made on; gone once the operation is over, and with it
        // whatever its readiness had reserved.
        service: Option<S>,
        // The request of the next attempt, or why there can be none.
        spare: Result<Req, Stop>,
        // The outcome of the attempt before, should no other follow.
        last: Option<Result<S::Response, S::Error>>,
        operation: Operation,
        classifier: C,
        copier: K,
        preparer: P,
        carrier: X,
        #[pin]
        state: State<X::Future<S::Future>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Attempt {
            #[pin]
            attempt: F,
        },
        Backoff {
            #[pin]
            sleep: Unconstrained<Sleep>,
        },
        Readiness {
            // How long there is to wait, once there is a wait and a limit to it.
            #[pin]
            patience: Option<Unconstrained<Sleep>>,
        },
        Done,
    }
}

impl<S, Req, C, K, P, X> RetryFuture<S, Req, C, K, P, X>
where
    S: Service<Req> + Clone,
    K: CloneRequest<Req>,
    X: Carrier<Req>,
{
    /// Makes the first attempt on `ready`, which is that; later ones on a clone, each once that is
    /// ready (law 1). It is the clone that moves into the future, as in tower's own retry: it is made
    /// there, where the instance just called would have to be copied.
    #[inline]
    pub(super) fn start(
        ready: &mut S,
        request: Req,
        operation: Operation,
        classifier: C,
        copier: K,
        preparer: P,
        carrier: X,
    ) -> Self {
        let service = ready.clone();
        let context = carrier.context(&request);
        let spare = copy(&operation, &copier, &request, context);
        let context = told(&carrier, &operation, &copier, &request, &spare, context);
        let attempt = carrier.carry(context, request, |request| ready.call(request));
        RetryFuture {
            service: Some(service),
            spare,
            last: None,
            operation,
            classifier,
            copier,
            preparer,
            carrier,
            state: State::Attempt { attempt },
        }
    }
}

impl<S, Req, C, K, P, X> Future for RetryFuture<S, Req, C, K, P, X>
where
    S: Service<Req> + Clone,
    S::Error: StackError,
    C: Classify<S::Response, S::Error>,
    K: CloneRequest<Req>,
    P: PrepareRequest<Req>,
    X: Carrier<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = loop {
            let mut sent = true;
            let outcome = match this.state.as_mut().project() {
                StateProjection::Attempt { attempt } => ready!(attempt.poll(cx)),
                StateProjection::Backoff { sleep } => {
                    ready!(sleep.poll(cx));
                    this.state.set(State::Readiness { patience: None });
                    continue;
                }
                StateProjection::Readiness { patience } => {
                    let service = this.service.as_mut().expect(POLLED_AGAIN);
                    let Poll::Ready(ready) = service.poll_ready(cx) else {
                        let deadline = deadline(this.spare, this.carrier);
                        ready!(poll_patience(patience, this.operation, deadline, cx));
                        // A service that is never ready must not keep the outcome there is.
                        this.operation.stop(Stop::OutOfTime);
                        break this.last.take().expect(POLLED_AGAIN);
                    };
                    match ready {
                        Ok(()) => {
                            // A body that is still on its way out of the attempt before may have
                            // got too far meanwhile to be sent again.
                            if let Err(stop) = repeatable(this.spare, this.copier, true) {
                                this.operation.stop(stop);
                                break this.last.take().expect(POLLED_AGAIN);
                            }
                            let deadline = deadline(this.spare, this.carrier);
                            if !this.operation.start_another(deadline) {
                                break this.last.take().expect(POLLED_AGAIN);
                            }
                            let spare = mem::replace(this.spare, Err(Stop::Exhausted));
                            let mut request = spare.expect("a retry is decided on with a request");
                            // What a later attempt starts from is the original, not what the hook
                            // makes of it for this one.
                            let context = this.carrier.context(&request);
                            *this.spare = copy(this.operation, this.copier, &request, context);
                            let context = told(
                                this.carrier,
                                this.operation,
                                this.copier,
                                &request,
                                this.spare,
                                context,
                            );
                            this.preparer.prepare_request(&mut request, this.operation.attempt());
                            *this.last = None;
                            let call = |request| service.call(request);
                            let attempt = this.carrier.carry(context, request, call);
                            this.state.set(State::Attempt { attempt });
                            continue;
                        }
                        Err(error) => {
                            // By tower's contract this instance is dead. A clone of it has also
                            // none of the permits that it may have got on the way (law 2).
                            *service = service.clone();
                            this.operation.failed_unstarted();
                            sent = false;
                            Err(error)
                        }
                    }
                }
                StateProjection::Done => panic!("{POLLED_AGAIN}"),
            };
            let verdict = Verdict::of(this.classifier, &outcome);
            let unsent = !sent || verdict == Verdict::Unreachable;
            let repeatable = || {
                repeatable(this.spare, this.copier, unsent)?;
                Ok(deadline(this.spare, this.carrier))
            };
            let Next::Retry(delay) = this.operation.after(verdict, &outcome, repeatable) else {
                break outcome;
            };
            *this.last = Some(outcome);
            // Law 2: the attempt's future goes before the wait, with whatever it holds.
            if delay.is_zero() {
                // Not again in this poll: an outer timeout, and other tasks, want their turn.
                this.state.set(State::Readiness { patience: None });
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.state.set(State::Backoff { sleep: sleep(delay) });
        };
        this.state.set(State::Done);
        // And the instance goes now, not when the caller drops this future (law 2); so does an
        // outcome that another one has taken the place of.
        *this.service = None;
        *this.last = None;
        Poll::Ready(outcome)
    }
}

/// Ready when the operation has no time left; never, if there is no limit to it.
#[cold]
fn poll_patience(
    mut patience: Pin<&mut Option<Unconstrained<Sleep>>>,
    operation: &Operation,
    deadline: Deadline,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if patience.is_none() {
        let Some(left) = operation.time_left(deadline) else { return Poll::Pending };
        patience.set(Some(sleep(left)));
    }
    match patience.as_pin_mut() {
        Some(sleep) => sleep.poll(cx),
        None => Poll::Pending,
    }
}

const POLLED_AGAIN: &str = "`RetryFuture` polled again after it was done";

/// A copy for the attempt after the one that `request` is about to be sent in.
#[inline]
fn copy<Req>(
    operation: &Operation,
    copier: &impl CloneRequest<Req>,
    request: &Req,
    context: CallContext,
) -> Result<Req, Stop> {
    if context.is_retried() {
        return Err(Stop::RetriedAbove);
    }
    operation.may_repeat()?;
    if copier.repeats(request) == Repeats::Never {
        return Err(Stop::NotIdempotent);
    }
    copier.clone_request(request).ok_or(Stop::Uncloneable)
}

/// What those below are told: that there is a retry above them, if that would repeat whatever they
/// fail at. A request that is only repeated while it has reached nobody is theirs to repeat where
/// they cannot reach anybody.
#[inline]
fn told<X, Req>(
    _: &X,
    operation: &Operation,
    copier: &impl CloneRequest<Req>,
    request: &Req,
    spare: &Result<Req, Stop>,
    context: CallContext,
) -> CallContext
where
    X: Carrier<Req>,
{
    if X::CARRIES
        && operation.repeats()
        && !context.is_retried()
        && !matches!(spare, Err(Stop::Uncloneable))
        && copier.repeats(request) == Repeats::Always
    {
        context.attempt(operation.attempt())
    } else {
        context
    }
}

/// When a copy of the request has to have been answered.
#[inline]
fn deadline<Req>(spare: &Result<Req, Stop>, carrier: &impl Carrier<Req>) -> Deadline {
    spare.as_ref().ok().and_then(|request| carrier.context(request).deadline)
}

/// Whether the spare copy may be sent, after an attempt that reached nobody or may have been
/// executed. Every attempt before that one reached nobody, or this would have ended there.
#[inline]
fn repeatable<Req>(
    spare: &Result<Req, Stop>,
    copier: &impl CloneRequest<Req>,
    unsent: bool,
) -> Result<(), Stop> {
    let request = spare.as_ref().map_err(|stop| *stop)?;
    match copier.repeats(request) {
        Repeats::Always => Ok(()),
        Repeats::IfUnsent if unsent => Ok(()),
        Repeats::IfUnsent => Err(Stop::NotIdempotent),
        // It was copied while it could be; what it shares with the original has become unusable.
        Repeats::Never => Err(Stop::Uncloneable),
    }
}

impl<S, Req, C, K, P, X> fmt::Debug for RetryFuture<S, Req, C, K, P, X>
where
    S: Service<Req>,
    X: Carrier<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Attempt { .. } => "attempt",
            State::Backoff { .. } => "backoff",
            State::Readiness { .. } => "readiness",
            State::Done => "done",
        };
        f.debug_struct("RetryFuture")
            .field("operation", &self.operation)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
