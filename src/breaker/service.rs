use std::{
    fmt, mem,
    task::{Context, Poll, ready},
};

use tower_service::Service;

#[cfg(feature = "http")]
use super::Permit;
use super::{
    CircuitBreaker, CircuitBreakerFuture,
    attempt::Attempt,
    cell::{BreakerCell, Reception},
    refusal::Refused,
    ticket::Ticket,
    wait::{Clearance, PendingTurn, Reservation, Turn, turn},
};
#[cfg(feature = "http")]
use crate::error::PolicyError;
use crate::{
    clock::Tick,
    error::StackError,
    verdict::{Classify, Errors, FailureKind, Verdict},
};

/// A service behind a circuit breaker; made by [`CircuitBreakerLayer`](super::CircuitBreakerLayer).
///
/// # Readiness
///
/// While the circuit is open this is ready at once, without asking the wrapped service, and
/// [`call`](Service::call) refuses: to tower an error from `poll_ready` means that a service is
/// dead, and an open circuit is not. With [`WhenOpen::Wait`](super::WhenOpen::Wait) it is not ready
/// until calls may pass.
/// An error from the wrapped service's own `poll_ready` is an outcome and is counted.
///
/// If the circuit opens between `poll_ready` and `call`, the call is refused, and what the wrapped
/// service had reserved stays reserved until that is called or dropped. A service that reserves
/// something in `poll_ready` (a limiter's permit) should be wrapped by
/// [`releasing`](super::CircuitBreakerLayer::releasing), which lets go of it at the next `poll_ready`.
pub struct CircuitBreakerService<S, C = Errors> {
    inner: S,
    classifier: C,
    cell: &'static BreakerCell,
    /// When readiness was promised without asking the wrapped service: the call must be refused,
    /// even if the circuit has closed since. [`Tick::NEVER`] if it was not.
    refusing: Tick,
    /// The wrapped service has said that it is ready, and has not been called since.
    inner_is_ready: bool,
    /// A fresh instance in place of one that is ready and will not be called; see
    /// [`CircuitBreakerLayer::releasing`](super::CircuitBreakerLayer::releasing).
    renew: fn(&S) -> Option<S>,
    waiting: Option<Box<Waiting>>,
}

/// How far a service has come that waits for a circuit to let calls pass.
enum Waiting {
    /// For its turn, among all that wait for this breaker.
    Turn(PendingTurn),
    /// It is its turn; for the wrapped service to be ready. If that takes too long, the others
    /// pass it by.
    Inner(#[allow(dead_code)] Turn),
    /// For its caller to call.
    Call(Reservation),
}

impl Waiting {
    fn for_turn(cell: &'static BreakerCell) -> Self {
        Waiting::Turn(Box::pin(turn(cell)))
    }
}

impl<S, C> CircuitBreakerService<S, C> {
    pub(super) const fn new(
        inner: S,
        breaker: CircuitBreaker,
        classifier: C,
        renew: fn(&S) -> Option<S>,
    ) -> Self {
        CircuitBreakerService {
            inner,
            classifier,
            cell: breaker.cell,
            refusing: Tick::NEVER,
            inner_is_ready: false,
            renew,
            waiting: None,
        }
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
            Poll::Ready(Ok(())) => {
                self.inner_is_ready = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.count_unready(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A service that fails to become ready has failed, like a call: like the probe, if one was
    /// put aside for it.
    #[cold]
    fn count_unready<Req>(&mut self, error: S::Error) -> S::Error
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        let outcome: Result<S::Response, S::Error> = Err(error);
        let verdict = Verdict::of(&self.classifier, &outcome);
        // The turn, if this had one, is given up only after the failure has been counted.
        let (ticket, _turn) = match self.waiting.take().map(|waiting| *waiting) {
            Some(Waiting::Call(reservation)) => (reservation.start(), None),
            other => (None, other),
        };
        if let Some(ticket) = ticket.or_else(|| self.cell.ticket()) {
            let kind = || FailureKind::of(verdict, &outcome);
            Attempt::with(self.cell, ticket).finish(verdict, kind);
        }
        match outcome {
            Err(error) => error,
            Ok(_) => unreachable!("made from an error above"),
        }
    }

    /// Lets go of what the wrapped service has reserved for a call that is not made.
    fn release_inner(&mut self) {
        if mem::take(&mut self.inner_is_ready)
            && let Some(fresh) = (self.renew)(&self.inner)
        {
            self.inner = fresh;
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
        match self.cell.receive() {
            Reception::Welcome => {
                self.waiting = None;
                self.poll_inner(cx)
            }
            Reception::Refused { asked } => {
                self.refusing = asked;
                self.release_inner();
                Poll::Ready(Ok(()))
            }
            Reception::MustWait => self.poll_wait(cx),
        }
    }

    #[cold]
    #[inline(never)]
    fn poll_wait<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        S::Error: StackError,
        C: Classify<S::Response, S::Error>,
    {
        loop {
            match self.waiting.as_deref_mut() {
                None => {
                    self.release_inner();
                    self.waiting = Some(Box::new(Waiting::for_turn(self.cell)));
                }
                Some(Waiting::Turn(turn)) => {
                    let turn = ready!(turn.as_mut().poll(cx));
                    self.waiting = Some(Box::new(Waiting::Inner(turn)));
                }
                Some(Waiting::Inner(_)) => {
                    ready!(self.poll_inner(cx))?;
                    match self.cell.clear() {
                        Clearance::Free => self.waiting = None,
                        Clearance::Reserved(reservation) => {
                            self.waiting = Some(Box::new(Waiting::Call(reservation)));
                        }
                        Clearance::Taken => {
                            self.waiting = None;
                            continue;
                        }
                    }
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

    /// The refusal, if that is what readiness was promised for.
    #[inline]
    fn refuse_unready(&mut self) -> Option<Refused> {
        let asked = mem::replace(&mut self.refusing, Tick::NEVER);
        (asked != Tick::NEVER).then(|| Refused::new(self.cell, self.cell.refuse_unready(asked)))
    }

    /// Leave for a call that is not refused for that reason and was not waved through: the probe
    /// that was put aside for it, or whatever anybody else would get.
    #[inline(never)]
    fn admit(&mut self) -> Result<Ticket, Refused> {
        if let Some(waiting) = self.waiting.take()
            && let Waiting::Call(reservation) = *waiting
            && let Some(ticket) = reservation.start()
        {
            return Ok(ticket);
        }
        self.cell.admit().map_err(|refusal| Refused::new(self.cell, refusal))
    }
}

/// For who keeps the verdict back until the body of the response has ended.
#[cfg(feature = "http")]
impl<S, C> CircuitBreakerService<S, C> {
    pub(crate) const fn classifier(&self) -> &C {
        &self.classifier
    }

    /// What [`call`](Service::call) begins with.
    pub(crate) fn begin<Req>(&mut self, request: Req) -> Result<(S::Future, Permit), PolicyError>
    where
        S: Service<Req>,
    {
        if let Some(refused) = self.refuse_unready() {
            return Err(refused.into());
        }
        let ticket = self.admit()?;
        self.inner_is_ready = false;
        let mut permit = Permit::new(Attempt::with(self.cell, ticket));
        let inner = permit.run(|| self.inner.call(request));
        Ok((inner, permit))
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
        self.refusing = Tick::NEVER;
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
        let gate = self.cell.gate();
        let ticket = if gate.is_closed() && self.refusing == Tick::NEVER && self.waiting.is_none() {
            Ticket::counted(gate)
        } else if let Some(refused) = self.refuse_unready() {
            return CircuitBreakerFuture::refused(refused);
        } else {
            match self.admit() {
                Ok(ticket) => ticket,
                Err(refused) => return CircuitBreakerFuture::refused(refused),
            }
        };
        self.inner_is_ready = false;
        let mut attempt = Attempt::with(self.cell, ticket);
        let stopwatch = self.cell.meter.start();
        let inner = attempt.run(|| self.inner.call(request));
        CircuitBreakerFuture::running(inner, self.classifier.clone(), attempt, stopwatch)
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
            refusing: Tick::NEVER,
            inner_is_ready: false,
            renew: self.renew,
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
