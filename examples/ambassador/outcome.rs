//! How requests end: each as exactly one of these, counted once.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use metrics::{Counter, Histogram};
use tokio::time::Instant;
use tower::BoxError;

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The upstream's answer, all of it. A 404 is one.
    Good,
    /// An answer of the backup, or the static one; its headers say so.
    Degraded,
    /// An error, the ambassador's or the upstream's own 5xx or 429; its headers say so.
    Refused,
    /// Part of an answer, and a connection or stream that was closed before its end.
    Truncated,
    /// Nothing any more: the caller went away before.
    Gone,
}

impl End {
    pub(crate) const ALL: [End; 5] =
        [End::Good, End::Degraded, End::Refused, End::Truncated, End::Gone];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            End::Good => "good",
            End::Degraded => "degraded",
            End::Refused => "refused",
            End::Truncated => "truncated",
            End::Gone => "gone",
        }
    }
}

/// Counts the ends of one upstream's requests.
pub(crate) struct Outcomes {
    upstream: String,
    ends: [Counter; End::ALL.len()],
    duration: Histogram,
    in_flight: AtomicUsize,
}

impl Outcomes {
    pub(crate) fn new(upstream: &str) -> Self {
        let upstream = upstream.to_owned();
        let ends = End::ALL.map(|end| {
            metrics::counter!(
                "ambassador_requests_total",
                "upstream" => upstream.clone(),
                "outcome" => end.as_str()
            )
        });
        let duration = metrics::histogram!(
            "ambassador_request_duration_seconds",
            "upstream" => upstream.clone()
        );
        Outcomes { upstream, ends, duration, in_flight: AtomicUsize::new(0) }
    }

    /// Requests whose answers are not complete.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request has come.
    pub(crate) fn begin(&'static self, id: &HeaderValue, method: &Method, uri: &Uri) -> Tally {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let line = tracing::enabled!(tracing::Level::DEBUG).then(|| {
            let path = uri.path().to_owned();
            Box::new(Line { id: id.clone(), method: method.clone(), path, status: 0 })
        });
        Tally { outcomes: self, began: Instant::now(), end: End::Gone, line }
    }
}

/// For the access log, where somebody reads that.
struct Line {
    id: HeaderValue,
    method: Method,
    path: String,
    status: u16,
}

/// One request. Counted when it is dropped, which is when its answer has been sent or never will.
pub(crate) struct Tally {
    outcomes: &'static Outcomes,
    began: Instant,
    end: End,
    line: Option<Box<Line>>,
}

impl Tally {
    /// Its answer begins with this status. If it ends as well, the request will have ended so.
    pub(crate) fn answer(
        mut self,
        status: u16,
        end: End,
        body: UnsyncBoxBody<Bytes, BoxError>,
    ) -> Tallied {
        if let Some(line) = &mut self.line {
            line.status = status;
        }
        if body.is_end_stream() {
            self.end = end;
        }
        Tallied { body, complete: end, tally: self }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Outcomes { upstream, ends, duration, in_flight } = self.outcomes;
        in_flight.fetch_sub(1, Ordering::Relaxed);
        ends[self.end as usize].increment(1);
        let seconds = self.began.elapsed().as_secs_f64();
        duration.record(seconds);
        if let Some(line) = &self.line {
            let Line { id, method, path, status } = &**line;
            let outcome = self.end.as_str();
            tracing::debug!(upstream, ?id, %method, path, status, outcome, seconds, "request");
        }
    }
}

/// The body of an answer, watched to its end.
pub(crate) struct Tallied {
    body: UnsyncBoxBody<Bytes, BoxError>,
    complete: End,
    tally: Tally,
}

impl Body for Tallied {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let this = &mut *self;
        this.tally.end = match &frame {
            Some(Err(_)) => End::Truncated,
            // The server looks no further once the body says that this was all.
            Some(Ok(_)) if !this.body.is_end_stream() => this.tally.end,
            _ if this.tally.end == End::Truncated => End::Truncated,
            _ => this.complete,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
