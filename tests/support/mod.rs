//! Services with a memory, for tests that ask what a layer did to the one below it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use buttress::Error;
use tower::Service;

pub type TestError = Error<&'static str>;

/// What a call of [`Probe`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Succeed,
    Fail,
    /// Never comes back.
    Hang,
    /// Panics when the future is polled.
    Panic,
    /// Panics in `Service::call`.
    PanicInCall,
    /// Is pending so many times, each time waking itself, and then succeeds.
    Yield(usize),
}

/// A service that does what the request says, insists on being made ready before each call, and
/// counts.
#[derive(Debug)]
pub struct Probe {
    pub counts: Arc<Counts>,
    ready: bool,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub polled_ready: AtomicUsize,
    pub called: AtomicUsize,
    /// Futures that exist now.
    pub alive: AtomicUsize,
    /// Answer readiness with an error while this is not zero.
    pub unready_errors: AtomicUsize,
}

impl Counts {
    pub fn called(&self) -> usize {
        self.called.load(Ordering::SeqCst)
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

impl Probe {
    pub fn new() -> (Probe, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Probe { counts: Arc::clone(&counts), ready: false }, counts)
    }
}

/// A clone has not been made ready, whatever the original has.
impl Clone for Probe {
    fn clone(&self) -> Self {
        Probe { counts: Arc::clone(&self.counts), ready: false }
    }
}

impl Service<Act> for Probe {
    type Response = &'static str;
    type Error = TestError;
    type Future = ProbeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TestError>> {
        self.counts.polled_ready.fetch_add(1, Ordering::SeqCst);
        let errors = &self.counts.unready_errors;
        let take = |left: usize| left.checked_sub(1);
        if errors.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return Poll::Ready(Err(Error::Service("not ready")));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, act: Act) -> ProbeFuture {
        assert!(std::mem::take(&mut self.ready), "law 1: called an instance that was not ready");
        self.counts.called.fetch_add(1, Ordering::SeqCst);
        assert!(act != Act::PanicInCall, "panic in call, as told");
        self.counts.alive.fetch_add(1, Ordering::SeqCst);
        ProbeFuture { act, counts: Arc::clone(&self.counts) }
    }
}

#[derive(Debug)]
pub struct ProbeFuture {
    act: Act,
    counts: Arc<Counts>,
}

impl Future for ProbeFuture {
    type Output = Result<&'static str, TestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.act {
            Act::Succeed | Act::Yield(0) => Poll::Ready(Ok("good")),
            Act::Fail => Poll::Ready(Err(Error::Service("failed"))),
            Act::Hang => Poll::Pending,
            Act::Panic | Act::PanicInCall => panic!("panic in poll, as told"),
            Act::Yield(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for ProbeFuture {
    fn drop(&mut self) {
        self.counts.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A waker that counts how often it was woken.
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn new() -> (Waker, Arc<Wakes>) {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        (Waker::from(Arc::clone(&wakes)), wakes)
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, without a waker worth the name.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs code that panics as it should, without the noise.
pub fn panics(code: impl FnOnce()) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err();
    std::panic::set_hook(hook);
    panicked
}
