//! Bodies that do what a test says.
#![allow(unreachable_pub)]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a [`Script`] does next.
#[derive(Clone, Debug)]
pub enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    Panic,
    /// Is pending for so long, from when it is first polled.
    Wait(Duration),
    /// Is pending for ever.
    Hang,
}

/// One piece of data.
pub fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

/// Trailers with one line.
pub fn trailers(name: &'static str, value: &'static str) -> Step {
    let mut map = HeaderMap::new();
    map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    Step::Trailers(map)
}

/// A body that follows a script, and counts itself for as long as it lives.
#[derive(Debug)]
pub struct Script {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Says how long it is, and where its end is.
    exact: bool,
    /// Says how long it is, but not where its end is.
    stated: bool,
    alive: Arc<AtomicUsize>,
}

pub fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    let alive = Arc::new(AtomicUsize::new(1));
    Script { steps: steps.into_iter().collect(), waiting: None, exact: false, stated: false, alive }
}

impl Script {
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// As a body of HTTP/2 with a `content-length`, whose stream is ended by a frame of its own.
    pub fn stated(mut self) -> Self {
        self.stated = true;
        self
    }

    /// How many of it there are: one, or none.
    pub fn alive(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.alive)
    }

    fn rest(&self) -> u64 {
        self.steps
            .iter()
            .map(|step| if let Step::Data(data) = step { data.len() } else { 0 } as u64)
            .sum()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed, as told")]
pub struct Failed;

impl Body for Script {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.waiting = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Trailers(map)) => return Poll::Ready(Some(Ok(Frame::trailers(map)))),
                Some(Step::Fail) => return Poll::Ready(Some(Err(Failed))),
                Some(Step::Panic) => panic!("panic in poll_frame, as told"),
                Some(Step::Wait(time)) => self.waiting = Some(Box::pin(sleep(time))),
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exact && self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact || self.stated { SizeHint::with_exact(self.rest()) } else { SizeHint::new() }
    }
}

pub type Polled<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

/// Polls a body once, without a waker worth the name.
pub fn poll<B: Body + Unpin>(body: &mut B) -> Polled<B> {
    Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
}
