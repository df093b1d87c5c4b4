//! The replay body over bodies that follow a script.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use buttress::{
    Backoff, BoxError, Error, Jitter, Retry, Stack, Verdict, classify_response,
    http::{
        Idempotent, ReplayLayer,
        body::{ReplayBody, ReplayError},
    },
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::{Service, ServiceExt, service_fn};

use crate::script::{Failed, Script, Step, data, ms, poll, script, trailers};
use crate::support::{Wakes, panics};

const LIMIT: usize = 16;

/// What was read of a body, up to its end, an error, or where it is pending.
#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<http::HeaderMap>,
    error: Option<String>,
    ended: bool,
}

impl Read {
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) {
        match frame {
            None => self.ended = true,
            Some(Err(error)) => self.error = Some(error.to_string()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.data.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
    }

    fn over(&self) -> bool {
        self.ended || self.error.is_some()
    }
}

fn read(body: &mut ReplayBody<Script>) -> Read {
    let mut read = Read::default();
    while let Poll::Ready(frame) = poll(body) {
        read.take(frame);
        if read.over() {
            assert!(matches!(poll(body), Poll::Ready(None)), "after its end there is nothing");
            assert!(body.is_end_stream());
            break;
        }
    }
    read
}

fn error_of(polled: Poll<Option<Result<Frame<Bytes>, BoxError>>>) -> ReplayError {
    let Poll::Ready(Some(Err(error))) = polled else { panic!("no error, but {polled:?}") };
    *error.downcast_ref().unwrap_or_else(|| panic!("another error: {error}"))
}

#[test]
fn law_03_dropped_anywhere_the_next_attempt_sends_the_same_bytes_and_trailers() {
    let steps = [data("one "), data("two "), data("three"), trailers("x-sum", "11")];
    let whole = read(&mut ReplayBody::new(script(steps.clone()), LIMIT));
    assert_eq!(whole.data, b"one two three");
    assert_eq!(whole.trailers.as_ref().unwrap()["x-sum"], "11");
    for polls in 0..=5 {
        let mut first = ReplayBody::new(script(steps.clone()), LIMIT);
        let mut second = first.try_clone().unwrap();
        for _ in 0..polls {
            let _ = poll(&mut first);
        }
        drop(first);
        let mut third = second.try_clone().unwrap();
        let _ = poll(&mut second);
        drop(second);
        assert_eq!(read(&mut third), whole, "dropped after {polls} polls");
    }
}

#[test]
fn over_the_limit_the_live_request_goes_on_and_copies_are_refused() {
    let steps = [data("0123456789"), data("abcdef"), data("!"), data("more")];
    let mut live = ReplayBody::new(script(steps), LIMIT);
    let mut copy = live.try_clone().unwrap();
    let _ = poll(&mut live);
    let _ = poll(&mut live);
    assert!(copy.is_replayable(), "all of the limit may be used");
    let _ = poll(&mut live);
    assert!(!copy.is_replayable());
    assert!(copy.try_clone().is_none() && live.try_clone().is_none());
    let kept = format!("{live:?}");
    assert!(kept.contains("kept: None"), "released: {kept}");

    assert_eq!(error_of(poll(&mut copy)), ReplayError::TooLong { limit: LIMIT });
    let rest = read(&mut live);
    assert_eq!((rest.data.as_slice(), rest.ended), (&b"more"[..], true));
}

#[test]
fn a_body_known_to_be_too_long_is_kept_from_the_beginning_or_not_at_all() {
    let long = script([data("0123456789"), data("0123456789")]).exact();
    let live = ReplayBody::new(long, LIMIT);
    assert_eq!(live.size_hint().exact(), Some(20));
    let mut second = live.try_clone().expect("nothing has been read of it");
    let third = live.try_clone().unwrap();
    drop(live);
    let _ = poll(&mut second);
    assert!(!third.is_replayable());
    assert!(format!("{third:?}").contains("kept: None"));
    assert_eq!(read(&mut second).data, b"0123456789");
}

#[test]
fn sizes_and_ends_are_those_of_the_whole_for_every_copy() {
    let steps = [data("one "), data("two ")];
    let mut first = ReplayBody::new(script(steps).exact(), LIMIT);
    let mut copy = first.try_clone().unwrap();
    for left in [8, 4, 0] {
        assert_eq!(first.size_hint().exact(), Some(left));
        assert_eq!(copy.size_hint().exact(), Some(8), "it begins at the beginning");
        assert_eq!((first.is_end_stream(), copy.is_end_stream()), (left == 0, false));
        let _ = poll(&mut first);
    }
    drop(first);
    let _ = poll(&mut copy);
    assert_eq!((copy.size_hint().exact(), copy.is_end_stream()), (Some(0), true));

    // Trailers are still to come, so that is not the end. And a client would leave them out if a copy
    // stated a length that the original did not.
    let mut first = ReplayBody::new(script([data("one"), trailers("x-sum", "3")]), LIMIT);
    let mut copy = first.try_clone().unwrap();
    let _ = read(&mut first);
    assert_eq!(copy.size_hint().exact(), None);
    let _ = poll(&mut copy);
    assert!(!copy.is_end_stream());
    assert_eq!(read(&mut copy).trailers.unwrap()["x-sum"], "3");
}

#[test]
fn an_error_of_the_stream_is_the_reader_s_and_ends_it_for_all() {
    let mut live = ReplayBody::new(script([data("one"), Step::Fail, data("no")]), LIMIT);
    let mut copy = live.try_clone().unwrap();
    let seen = read(&mut live);
    assert_eq!(seen.error, Some(Failed.to_string()), "the stream's own error");
    assert!(!copy.is_replayable() && copy.try_clone().is_none());
    assert!(!copy.is_end_stream());
    assert_eq!(error_of(poll(&mut copy)), ReplayError::Failed);
}

#[test]
fn law_03_a_stream_that_panicked_is_not_read_again() {
    let mut live = ReplayBody::new(script([data("one"), Step::Panic, data("no")]), LIMIT);
    let mut copy = live.try_clone().unwrap();
    let _ = poll(&mut live);
    assert!(panics(|| drop(poll(&mut live))));
    assert!(!copy.is_replayable() && copy.try_clone().is_none());
    assert_eq!(error_of(poll(&mut copy)), ReplayError::Failed);
    assert_eq!(copy.size_hint().exact(), Some(0), "and then it is over");
}

#[test]
fn the_copy_that_began_last_reads_the_rest_and_the_one_before_is_told() {
    let mut first = ReplayBody::new(script([data("one"), Step::Hang]), LIMIT);
    let mut second = first.try_clone().unwrap();
    let _ = poll(&mut first);
    let (waker, woken) = Wakes::new();
    let waiting = Pin::new(&mut first).poll_frame(&mut Context::from_waker(&waker));
    assert!(waiting.is_pending());

    assert!(matches!(poll(&mut second), Poll::Ready(Some(Ok(_)))));
    assert_eq!(woken.count(), 1, "whoever waited has to hear of it");
    assert!(!first.is_end_stream(), "never a clean end");
    assert_eq!(error_of(poll(&mut first)), ReplayError::Superseded);
    assert!(poll(&mut second).is_pending());
    assert_eq!(woken.count(), 1);
}

#[test]
fn the_last_one_reads_whatever_became_of_those_before() {
    let mut first = ReplayBody::new(script([data("one"), data("two"), data("three")]), LIMIT);
    let mut second = first.try_clone().unwrap();
    let _ = poll(&mut first);
    let _ = poll(&mut second); // "one", and takes over
    assert_eq!(error_of(poll(&mut first)), ReplayError::Superseded);
    let rest = read(&mut second);
    assert_eq!((rest.data.as_slice(), rest.ended), (&b"twothree"[..], true));
}

/// It has said that it is at its end, so it cannot say that it has been cut off.
#[test]
fn one_that_has_sent_everything_is_not_superseded() {
    for exact in [false, true] {
        let body = script([data("one")]);
        let mut first = ReplayBody::new(if exact { body.exact() } else { body }, LIMIT);
        let mut second = first.try_clone().unwrap();
        let _ = poll(&mut first);
        let _ = poll(&mut second);
        assert_eq!(first.is_end_stream(), exact);
        let polled = poll(&mut first);
        if exact {
            assert!(matches!(polled, Poll::Ready(None)), "{polled:?}");
        } else {
            assert_eq!(error_of(polled), ReplayError::Superseded);
        }
        assert!(read(&mut second).ended);
    }
}

#[test]
fn what_nobody_has_a_copy_of_is_not_kept() {
    let mut live = ReplayBody::new(script([data("one"), data("two")]), LIMIT);
    assert!(live.is_replayable());
    let copy = live.try_clone().unwrap();
    let _ = poll(&mut live);
    assert!(format!("{live:?}").contains("kept: Some(3)"));
    drop(copy);
    let _ = poll(&mut live);
    assert!(format!("{live:?}").contains("kept: None") && live.try_clone().is_none());
}

#[test]
fn an_empty_body_can_always_be_sent_again() {
    let empty = script([]).exact();
    let alive = empty.alive();
    let mut body = ReplayBody::new(empty, 0);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "nothing is kept of it");
    assert!(body.is_end_stream() && body.is_replayable());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(read(&mut body).ended);
    assert!(read(&mut body.try_clone().unwrap()).ended);
}

#[test]
fn the_stream_goes_with_its_last_copy() {
    let body = script([data("one"), Step::Hang]);
    let alive = body.alive();
    let mut first = ReplayBody::new(body, LIMIT);
    let second = first.try_clone().unwrap();
    let _ = poll(&mut first);
    drop(first);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    drop(second);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// A client's connection task goes on sending after the answer has come. By the time of the next
/// attempt the body is past what is kept, so the answer that there is, is the answer.
#[tokio::test(start_paused = true)]
async fn a_body_that_gets_too_far_during_the_backoff_is_not_sent_again() {
    for (pieces, status, retried, uncloneable) in [(3, 200, 1, 0), (5, 503, 0, 1)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let server = service_fn(move |request: Request<ReplayBody<Script>>| {
            tokio::spawn(async move { request.into_body().collect().await.map(drop) });
            let status = [503, 200][calls.fetch_add(1, Ordering::SeqCst)];
            let response = Response::builder().status(status).body(());
            async move { Ok::<_, Error<Infallible>>(response.unwrap()) }
        });
        let backoff = Backoff::constant(ms(100)).jitter(Jitter::None);
        let retry = Retry::builder("too far").max_attempts(2).backoff(backoff).build().unwrap();
        let by_status = classify_response(|response: &Response<()>| match response.status() {
            StatusCode::OK => Verdict::Success,
            _ => Verdict::Transient,
        });
        let mut client = Stack::classified(by_status)
            .clone_with(Idempotent)
            .layer(ReplayLayer::new().limit(LIMIT))
            .retry(retry)
            .service(server);
        let steps = (0..pieces).flat_map(|_| [Step::Wait(ms(10)), data("four")]);
        let request = Request::get("/").body(script(steps)).unwrap();
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), status);
        let counts = retry.counts();
        assert_eq!((counts.retried, counts.uncloneable), (retried, uncloneable));
    }
}

proptest! {
    /// Copies made before anything was sent, polled in any order and dropped at any time: each
    /// sends all of the body, or ends with an error after a part of it that is right so far; what is
    /// kept stays within the limit; and the one that began last always gets through unless the limit
    /// was passed before it began.
    #[test]
    fn copies_in_any_order_send_the_whole_or_fail(
        sizes in proptest::collection::vec(0_usize..6, 0..8),
        exact: bool,
        ends_with_trailers: bool,
        limit in 0_usize..24,
        turns in proptest::collection::vec((0_usize..4, proptest::bool::weighted(0.1)), 0..60),
    ) {
        let mut next = 0_u8;
        let mut whole = Vec::new();
        let mut steps = Vec::new();
        for size in sizes {
            let piece: Vec<u8> = (0..size).map(|_| { next += 1; next }).collect();
            whole.extend_from_slice(&piece);
            steps.push(Step::Data(Bytes::from(piece)));
        }
        let sum = ends_with_trailers.then(|| trailers("x-sum", "1"));
        steps.extend(sum);
        let body = script(steps);
        let body = ReplayBody::new(if exact { body.exact() } else { body }, limit);
        let mut copies: Vec<Option<(ReplayBody<Script>, Read)>> =
            (0..3).map(|_| body.try_clone().map(|copy| (copy, Read::default()))).collect();
        copies.push(Some((body, Read::default())));
        let mut last_begun: Option<usize> = None;
        let mut begun = [false; 4];
        for (copy, gone) in turns {
            if gone {
                copies[copy] = None;
                continue;
            }
            let Some((body, read)) = &mut copies[copy] else { continue };
            if read.over() {
                continue;
            }
            if !begun[copy] && body.is_replayable() {
                begun[copy] = true;
                last_begun = Some(copy);
            }
            if let Poll::Ready(frame) = poll(body) {
                read.take(frame);
            }
            prop_assert!(whole.starts_with(&read.data));
            if read.ended {
                prop_assert_eq!(&read.data, &whole, "a clean end is the end of all");
                prop_assert_eq!(read.trailers.is_some(), ends_with_trailers);
            }
            prop_assert!(read.error.is_none() || last_begun != Some(copy), "{:?}", read);
            let debug = format!("{body:?}");
            if let Some(kept) = debug.split("kept: Some(").nth(1) {
                let kept: usize = kept.split(')').next().unwrap().parse().unwrap();
                prop_assert!(kept <= limit, "{}", debug);
            }
        }
    }
}

/// A source whose pieces come from outside, and which remembers whom to tell as the contract of
/// `Future` has it: only whoever has polled last.
#[derive(Default)]
struct Feed {
    pieces: std::collections::VecDeque<Bytes>,
    over: bool,
    told_over: bool,
    waker: Option<std::task::Waker>,
}

struct Fed(Arc<std::sync::Mutex<Feed>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let mut feed = self.0.lock().unwrap();
        assert!(!feed.told_over, "polled after its end");
        if let Some(piece) = feed.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if feed.over {
            feed.told_over = true;
            return Poll::Ready(None);
        }
        feed.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a task does next with one of the copies.
#[derive(Clone, Debug)]
enum Move {
    /// The task of this copy runs, if it was woken.
    Run(usize),
    /// It is polled though it was not.
    Poll(usize),
    Drop(usize),
    Copy(usize),
    /// The source gets a piece of this size.
    Piece(usize),
    End,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0_usize..6).prop_map(Move::Run),
        2 => (0_usize..6).prop_map(Move::Poll),
        1 => (0_usize..6).prop_map(Move::Drop),
        2 => (0_usize..6).prop_map(Move::Copy),
        4 => (0_usize..5).prop_map(Move::Piece),
        1 => Just(Move::End),
    ];
    proptest::collection::vec(one, 0..80)
}

proptest! {
    /// Each copy is a task of its own, which runs only when it is woken. Whatever happens to the
    /// others, it comes to an end: nobody sleeps for ever over a source that has ended, and nobody
    /// ends cleanly without all of it.
    #[test]
    fn law_05_no_copy_sleeps_over_what_has_come(moves in moves(), limit in 0_usize..20) {
        struct Task {
            body: ReplayBody<Fed>,
            read: Read,
            waker: std::task::Waker,
            woken: Arc<Wakes>,
            seen: usize,
            runnable: bool,
        }
        impl Task {
            fn new(body: ReplayBody<Fed>) -> Task {
                let (waker, woken) = Wakes::new();
                Task { body, read: Read::default(), waker, woken, seen: 0, runnable: true }
            }
            fn poll(&mut self) {
                if self.read.over() {
                    return;
                }
                self.seen = self.woken.count();
                self.runnable = false;
                let mut cx = Context::from_waker(&self.waker);
                if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(&mut cx) {
                    self.read.take(frame);
                    self.runnable = true;
                }
            }
            fn may_run(&self) -> bool {
                !self.read.over() && (self.runnable || self.woken.count() > self.seen)
            }
        }
        let feed = Arc::new(std::sync::Mutex::new(Feed::default()));
        let mut whole: Vec<u8> = Vec::new();
        let body = ReplayBody::new(Fed(Arc::clone(&feed)), limit);
        let mut tasks: Vec<Option<Task>> = Vec::new();
        tasks.extend((0..2).map(|_| body.try_clone().map(Task::new)));
        tasks.push(Some(Task::new(body)));
        for step in moves.into_iter().chain([Move::End]) {
            match step {
                Move::Run(task) | Move::Poll(task) if task < tasks.len() => {
                    if let Some(it) = &mut tasks[task]
                        && (it.may_run() || matches!(step, Move::Poll(_)))
                    {
                        it.poll();
                    }
                }
                Move::Drop(task) if task < tasks.len() => tasks[task] = None,
                Move::Copy(task) if task < tasks.len() && tasks.len() < 6 => {
                    let copy = tasks[task].as_ref().and_then(|task| task.body.try_clone());
                    tasks.extend(copy.map(|copy| Some(Task::new(copy))));
                }
                Move::Piece(size) => {
                    let mut feed = feed.lock().unwrap();
                    if !feed.over {
                        let from = whole.len() as u8;
                        let piece: Vec<u8> = (from..from + size as u8).collect();
                        whole.extend_from_slice(&piece);
                        feed.pieces.push_back(piece.into());
                        feed.waker.take().into_iter().for_each(std::task::Waker::wake);
                    }
                }
                Move::End => {
                    let mut feed = feed.lock().unwrap();
                    feed.over = true;
                    feed.waker.take().into_iter().for_each(std::task::Waker::wake);
                }
                _ => {}
            }
        }
        // Everybody runs as long as he is woken.
        while let Some(task) = tasks.iter_mut().flatten().find(|task| task.may_run()) {
            task.poll();
        }
        for task in tasks.iter().flatten() {
            prop_assert!(task.read.over(), "asleep for ever: {:?}", task.read);
            prop_assert!(whole.starts_with(&task.read.data));
            prop_assert!(!task.read.ended || task.read.data == whole, "{:?}", task.read);
        }
    }
}
