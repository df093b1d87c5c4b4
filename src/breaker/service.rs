use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::Sleep;
use tower_service::Service;

use super::{
    CircuitBreaker, CircuitBreakerFuture, WhenOpen,
    attempt::Attempt,
    cell::BreakerCell,
    wait::{Clearance, LEASE, PendingTurn, Reservation, Turn, turn},
};
use crate::{
    error::{PolicyError, StackError},
    verdict::{Classify, Errors, FailureKind, Verdict},
};

/// A service behind a circuit breaker; made by [`CircuitBreakerLayer`](super::CircuitBreakerLayer).
///
/// # Readiness
///
/// While the circuit is open this is ready at once, without asking the wrapped service, and
/// [`call`](Service::call) refuses: to tower an error from `poll_ready` means that a service is
/// dead, and an open circuit is not. With [`WhenOpen::Wait`] it is not ready until calls may pass.
/// An error from the wrapped service's own `poll_ready` is an outcome and is counted.
///
/// If the circuit opens between `poll_ready` and `call`, the call is refused, and what the wrapped
/// service had reserved, a permit say, stays reserved until this is called again with the circuit
/// closed, or is dropped: giving it back would take a clone of the service. Put a limiter above
/// the breaker, or drop the service when it refuses.
pub struct CircuitBreakerService<S, C = Errors> {
    inner: S,
    classifier: C,
    cell: &'static BreakerCell,
    /// Readiness was promised without asking the wrapped service: the call must be refused, even
    /// if the circuit has closed since.
    refusing: bool,
    waiting: Option<Box<Waiting>>,
}

/// How far a service has come that waits for a circuit to let calls pass.
enum Waiting {
    /// For its turn, among all that wait for this breaker.
    Turn(PendingTurn),
    /// It is its turn; for the wrapped service to be ready. A service that takes too long over
    /// that goes to the end of the queue.
    Inner { _turn: Turn, patience: Pin<Box<Sleep>> },
    /// For its caller to call.
    Call(Reservation),
}

impl Waiting {
    fn for_turn(cell: &'static BreakerCell) -> Self {
        Waiting::Turn(Box::pin(turn(cell)))
    }
}

impl<S, C> CircuitBreakerService<S, C> {
    pub(super) const fn new(inner: S, breaker: CircuitBreaker, classifier: C) -> Self {
        let cell = breaker.cell;
        CircuitBreakerService { inner, classifier, cell, refusing: false, waiting: None }
    }

    /// The breaker this service is behind.
    pub const fn breaker(&self) -> CircuitBreaker {
        CircuitBreaker { cell: self.cell }
    }

    /// The wrapped service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn poll_inner<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        match self.inner.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.count_unready(error))),
            ready => ready,
        }
    }

    /// A service that fails to become ready has failed.
    #[cold]
    fn count_unready<Req>(&self, error: S::Error) -> S::Error
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        let outcome: Result<S::Response, S::Error> = Err(error);
        let verdict = Verdict::of(&self.classifier, &outcome);
        if let Ok(attempt) = Attempt::admit(self.cell) {
            attempt.finish(verdict, || FailureKind::of(verdict, &outcome));
        }
        match outcome {
            Err(error) => error,
            Ok(_) => unreachable!("made from an error above"),
        }
    }

    #[inline(never)]
    fn poll_ready_while_not_closed<Req>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        if self.cell.config.shadow {
            return self.poll_inner(cx);
        }
        if self.cell.config.when_open == WhenOpen::Wait {
            return self.poll_wait(cx);
        }
        if self.cell.would_refuse() {
            self.refusing = true;
            return Poll::Ready(Ok(()));
        }
        self.poll_inner(cx)
    }

    fn poll_wait<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        loop {
            match self.waiting.as_deref_mut() {
                None => self.waiting = Some(Box::new(Waiting::for_turn(self.cell))),
                Some(Waiting::Turn(turn)) => {
                    let turn = ready!(turn.as_mut().poll(cx));
                    let patience = Box::pin(tokio::time::sleep(LEASE));
                    self.waiting = Some(Box::new(Waiting::Inner { _turn: turn, patience }));
                }
                Some(Waiting::Inner { patience, .. }) => {
                    let ready = match self.inner.poll_ready(cx) {
                        Poll::Pending => {
                            ready!(patience.as_mut().poll(cx));
                            // First out of the queue, then in again at its end.
                            self.waiting = None;
                            continue;
                        }
                        Poll::Ready(ready) => ready,
                    };
                    if let Err(error) = ready {
                        self.waiting = None;
                        return Poll::Ready(Err(self.count_unready(error)));
                    }
                    self.waiting = match self.cell.clear() {
                        Clearance::Free => None,
                        Clearance::Reserved(reservation) => {
                            Some(Box::new(Waiting::Call(reservation)))
                        }
                        Clearance::Taken => {
                            self.waiting = None;
                            continue;
                        }
                    };
                    return Poll::Ready(Ok(()));
                }
                // Asked again instead of called: still ready, if the probe is still put aside.
                Some(Waiting::Call(reservation)) if reservation.is_good() => {
                    return self.poll_inner(cx);
                }
                Some(Waiting::Call(_)) => self.waiting = None,
            }
        }
    }

    /// The probe that was put aside for this call, or whatever anybody else would get.
    #[inline]
    fn admit(&mut self) -> Result<Attempt, PolicyError> {
        if mem::take(&mut self.refusing) {
            return Err(self.cell.refuse_unready());
        }
        if let Some(waiting) = self.waiting.take()
            && let Waiting::Call(reservation) = *waiting
            && let Some(ticket) = reservation.start()
        {
            return Ok(Attempt::with(self.cell, ticket));
        }
        Attempt::admit(self.cell)
    }
}

impl<S, C, Req> Service<Req> for CircuitBreakerService<S, C>
where
    S: Service<Req>,
    S::Error: StackError,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.refusing = false;
        if self.cell.gate().is_closed() {
            if self.waiting.is_some() {
                self.waiting = None;
            }
            return self.poll_inner(cx);
        }
        self.poll_ready_while_not_closed(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.admit() {
            Ok(mut attempt) => {
                let stopwatch = self.cell.meter.start();
                let inner = attempt.run(|| self.inner.call(request));
                let classifier = self.classifier.clone();
                CircuitBreakerFuture::running(inner, classifier, attempt, stopwatch)
            }
            Err(error) => CircuitBreakerFuture::refused(error),
        }
    }
}

/// The clone shares the breaker and starts with a readiness of its own.
impl<S: Clone, C: Clone> Clone for CircuitBreakerService<S, C> {
    #[inline]
    fn clone(&self) -> Self {
        CircuitBreakerService {
            inner: self.inner.clone(),
            classifier: self.classifier.clone(),
            cell: self.cell,
            refusing: false,
            waiting: None,
        }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for CircuitBreakerService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerService")
            .field("breaker", &self.breaker())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
