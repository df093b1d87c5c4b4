use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ReplayError;
use crate::error::BoxError;

/// A streaming request body that can be sent more than once.
///
/// While it is sent, what comes out of the stream is also kept. A copy, made with
/// [`try_clone`](Self::try_clone) before that, replays what was kept and then goes on with the rest
/// of the stream; so however far an attempt came, the next one sends the same bytes and the same
/// trailers. Usually made by a [`ReplayLayer`](super::ReplayLayer) above a retry.
///
/// # How much is kept
///
/// At most as many bytes as its limit says, and nothing once there is no copy that could need it.
/// What would go beyond that is not kept, and what had been is released; *the request that is being
/// sent goes on undisturbed*, but it cannot be sent again. A body that is known to be too long from
/// its [`size_hint`](Body::size_hint) is not kept from the beginning; it can be sent again only if
/// nothing has been read from it, as when a connection was refused.
///
/// Bytes are copied into a buffer of this body's own, because a slice of the buffer that a
/// connection was read into would keep the whole of that alive: the limit is one of memory, not of
/// what is visible through it.
///
/// # Who reads the rest
///
/// A client may still own the body of an attempt that was given up: hyper's connection task drops it
/// only when it notices. So attempts may overlap. What was kept is there for every copy, but the
/// stream itself belongs to **the copy that began last**. An earlier one that comes to the end of what
/// was kept gets [`ReplayError::Superseded`], and never a clean end: its server sees a request that
/// was cut off, not one that is complete and shorter. Once the stream has ended and all of it was
/// kept, any number of copies can be sent at the same time.
///
/// # Errors
///
/// An error of the stream itself, which goes to the attempt that reads it. The stream is over then,
/// so copies cannot be sent any more and say so with a [`ReplayError`]. As a `BoxError`, which every
/// client takes.
///
/// # Cancel safety
///
/// Dropped in mid-body, it loses nothing: the stream is shared by all copies, and ends with the last.
///
/// # Panics
///
/// When the stream does; copies are then as after an error.
pub struct ReplayBody<B> {
    /// `None` for an empty body, which costs nothing to copy.
    shared: Option<Arc<Mutex<Shared<B>>>>,
    /// Which of the copies to begin this was; zero while it has not.
    turn: u64,
    /// How many bytes this copy has sent.
    sent: u64,
    /// How long the body said it was. A copy says the same, even where it could know better: clients
    /// choose by it how to frame a request, and one of a stated length has no room for trailers.
    whole: SizeHint,
    /// It has come to its end, or to an error.
    ended: bool,
}

struct Shared<B> {
    source: Source<B>,
    /// What the source has given so far; `None` once that is not kept any more.
    kept: Option<Vec<u8>>,
    limit: usize,
    /// How many copies have begun. The last of them reads the source.
    turns: u64,
    /// The copy that waits for the source, to be told when another takes over.
    waiting: Option<Waker>,
}

enum Source<B> {
    Open(B),
    Ended(Option<HeaderMap>),
    Failed,
}

impl<B: Body> ReplayBody<B> {
    /// Keeps up to `limit` bytes of `body` while it is sent.
    ///
    /// A limit of zero keeps nothing: such a body can be sent again only if nothing was read from it.
    pub fn new(body: B, limit: usize) -> Self {
        let whole = body.size_hint();
        let shared = (!body.is_end_stream()).then(|| {
            Arc::new(Mutex::new(Shared {
                source: Source::Open(body),
                kept: Some(Vec::new()),
                limit,
                turns: 0,
                waiting: None,
            }))
        });
        ReplayBody { shared, turn: 0, sent: 0, whole, ended: false }
    }

    /// A copy that sends the body from its beginning; `None` if it cannot be sent again, see
    /// [`is_replayable`](Self::is_replayable).
    ///
    /// To be made before this one is sent: what nobody has a copy of is not kept.
    pub fn try_clone(&self) -> Option<Self> {
        self.is_replayable().then(|| ReplayBody {
            shared: self.shared.clone(),
            turn: 0,
            sent: 0,
            whole: self.whole,
            ended: false,
        })
    }

    /// Whether a copy would send the whole of the body, as far as can be known now.
    ///
    /// Once false it stays so: more was read than is kept, or the stream failed. While a copy is
    /// being sent it may become so at any time.
    pub fn is_replayable(&self) -> bool {
        match &self.shared {
            None => true,
            Some(shared) => shared.lock().is_ok_and(|shared| shared.kept.is_some()),
        }
    }
}

/// What a copy finds when it is polled.
type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let Some(shared) = this.shared.as_ref().filter(|_| !this.ended) else {
            return Poll::Ready(None);
        };
        // Nobody else holds the source or could make a copy that needs what is kept.
        let alone = Arc::strong_count(shared) == 1;
        // Poisoned: the source panicked, and what it would say next is worth nothing.
        let (polled, superseded) = match shared.lock() {
            Ok(mut shared) => {
                let superseded = shared.begin(&mut this.turn);
                (shared.poll(this.turn, &mut this.sent, alone, cx), superseded)
            }
            Err(_) => (failed(ReplayError::Failed), None),
        };
        // Outside of the lock, for whoever is woken may poll at once.
        if let Some(superseded) = superseded {
            superseded.wake();
        }
        this.ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(_) => true,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Some(shared) = self.shared.as_ref().filter(|_| !self.ended) else { return true };
        shared.lock().is_ok_and(|shared| {
            let all_sent = shared.kept.as_ref().is_none_or(|kept| self.sent == kept.len() as u64);
            self.may_read(&shared)
                && all_sent
                && match &shared.source {
                    Source::Open(body) => body.is_end_stream(),
                    Source::Ended(trailers) => trailers.is_none(),
                    Source::Failed => false,
                }
        })
    }

    fn size_hint(&self) -> SizeHint {
        if self.shared.is_none() || self.ended {
            return SizeHint::with_exact(0);
        }
        let mut left = SizeHint::new();
        left.set_lower(self.whole.lower().saturating_sub(self.sent));
        if let Some(upper) = self.whole.upper() {
            left.set_upper(upper.saturating_sub(self.sent));
        }
        left
    }
}

impl<B> ReplayBody<B> {
    /// Whether this copy can be sent to the end, as things are.
    fn may_read(&self, shared: &Shared<B>) -> bool {
        shared.kept.is_some() || (self.turn != 0 && self.turn == shared.turns)
    }
}

impl<B> Shared<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// A copy that is polled for the first time takes over the source, if it can be sent at all.
    /// Returns whom to tell.
    fn begin(&mut self, turn: &mut u64) -> Option<Waker> {
        if *turn != 0 || self.kept.is_none() {
            return None;
        }
        self.turns += 1;
        *turn = self.turns;
        self.waiting.take()
    }

    fn poll(&mut self, turn: u64, sent: &mut u64, alone: bool, cx: &mut Context<'_>) -> Polled {
        if let Some(kept) = &self.kept
            && *sent < kept.len() as u64
        {
            let rest = Bytes::copy_from_slice(&kept[*sent as usize..]);
            *sent = kept.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let reads = turn != 0 && turn == self.turns;
        match &mut self.source {
            Source::Failed => failed(ReplayError::Failed),
            Source::Ended(trailers) if self.kept.is_some() || reads => {
                Poll::Ready(trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Source::Open(_) if reads => self.poll_source(sent, alone, cx),
            // All of it was sent, as `is_end_stream` has said: that cannot be taken back.
            Source::Open(source) if self.kept.is_some() && source.is_end_stream() => {
                Poll::Ready(None)
            }
            // It has begun, so somebody else must have done so after it.
            _ if turn != 0 => failed(ReplayError::Superseded),
            _ => failed(ReplayError::TooLong { limit: self.limit }),
        }
    }

    fn poll_source(&mut self, sent: &mut u64, alone: bool, cx: &mut Context<'_>) -> Polled {
        let Source::Open(source) = &mut self.source else { return Poll::Ready(None) };
        let frame = match Pin::new(source).poll_frame(cx) {
            Poll::Pending => {
                match &mut self.waiting {
                    Some(waiting) => waiting.clone_from(cx.waker()),
                    waiting => *waiting = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Poll::Ready(None) => {
                self.source = Source::Ended(None);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                self.source = Source::Failed;
                self.kept = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        Poll::Ready(match frame.into_data() {
            Ok(mut data) => {
                let data = data.copy_to_bytes(data.remaining());
                self.keep(&data, alone);
                *sent += data.len() as u64;
                Some(Ok(Frame::data(data)))
            }
            // A frame that is neither is none that this version of `http-body` knows.
            Err(frame) => frame.into_trailers().ok().map(|trailers| {
                let kept = self.kept.is_some().then(|| trailers.clone());
                self.source = Source::Ended(kept);
                Ok(Frame::trailers(trailers))
            }),
        })
    }

    /// Keeps what was read, or gives up keeping anything.
    fn keep(&mut self, data: &[u8], alone: bool) {
        let Some(kept) = &mut self.kept else { return };
        // What is still to come, as far as that is known, has to find room as well.
        let coming = match &self.source {
            Source::Open(source) => {
                usize::try_from(source.size_hint().lower()).unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        let whole = kept.len().saturating_add(data.len()).saturating_add(coming);
        if alone || whole > self.limit {
            self.kept = None;
            return;
        }
        if kept.is_empty() {
            // All at once where the whole is known. Beyond that the buffer grows by doubling, so
            // that it never takes more than twice the limit.
            kept.reserve_exact(whole);
        }
        kept.extend_from_slice(data);
    }
}

fn failed(error: ReplayError) -> Polled {
    Poll::Ready(Some(Err(error.into())))
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = |shared: MutexGuard<'_, Shared<B>>| shared.kept.as_ref().map(Vec::len);
        let kept = self.shared.as_ref().and_then(|shared| shared.lock().ok().and_then(kept));
        f.debug_struct("ReplayBody")
            .field("sent", &self.sent)
            .field("kept", &kept)
            .finish_non_exhaustive()
    }
}
