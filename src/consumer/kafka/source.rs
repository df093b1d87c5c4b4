use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use rdkafka::{ClientConfig, ClientContext, client::DefaultClientContext, error::KafkaError};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until, timeout_at},
};

use super::{DeadLetters, Delivery, Error, SourceBuilder, group::Group};
use crate::consumer;

/// How long a pause lasts before the brokers are asked for nothing more.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// How long the end may take: a little less than the five seconds that a consumer gives its source.
const FOR_THE_END: Duration = Duration::from_millis(4500);

/// A member of a consumer group as a [`Source`](consumer::Source): see [the module](super).
///
/// Dropped without having been [closed](consumer::Source::close), it leaves the group all the same, in the
/// background, and the offsets settled so far are committed by that.
pub struct Source<C: ClientContext + 'static = DefaultClientContext> {
    /// `None` once it is closed.
    group: Option<Group<C>>,
    prefetch: usize,
    intervals: Intervals,
    /// When a pause began.
    paused: Option<Instant>,
    /// When the client was last polled for events, and when offsets were last committed.
    served: Option<Instant>,
    committed: Option<Instant>,
    /// For whichever of these is due next.
    timer: Option<Pin<Box<Sleep>>>,
    /// What went wrong where nothing can be returned, for the next poll.
    failed: Option<Error>,
    fatal: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// At the latest, the client is polled: well within `max.poll.interval.ms`.
    pub(super) serve: Duration,
    /// At most this often, offsets are committed.
    pub(super) commit: Duration,
}

impl Source {
    /// A member of the group that `config` names, for these topics. A name that begins with `^` is a
    /// regular expression, which must not match the topic of the dead letters.
    ///
    /// Of the configuration `group.id` and `bootstrap.servers` are needed.
    ///
    /// | setting | is |
    /// |---|---|
    /// | `enable.auto.offset.store`, `enable.auto.commit` | false, and must be: librdkafka would commit what nobody has handled yet |
    /// | `auto.commit.interval.ms` | how often the source commits |
    /// | `auto.offset.reset` | `earliest`, unless you say otherwise: see [what is guaranteed](super#what-is-guaranteed) |
    /// | `queued.max.messages.kbytes` | how much is fetched in advance *of each partition*, because each has a queue of its own: 4 MiB, unless you say otherwise |
    /// | `fetch.queue.backoff.ms` | 50, unless you say otherwise, so that this much is enough for tens of megabytes a second |
    pub fn builder<T: Into<String>>(
        config: &ClientConfig,
        topics: impl IntoIterator<Item = T>,
        dead_letters: DeadLetters,
    ) -> SourceBuilder {
        let topics = topics.into_iter().map(Into::into).collect();
        SourceBuilder::new(config.clone(), topics, dead_letters)
    }
}

impl<C: ClientContext + 'static> Source<C> {
    pub(super) fn new(group: Group<C>, prefetch: usize, intervals: Intervals) -> Self {
        Source {
            group: Some(group),
            prefetch,
            intervals,
            paused: None,
            served: None,
            committed: None,
            timer: None,
            failed: None,
            fatal: None,
        }
    }

    /// Does what is due, and says when something is due next.
    fn keep_up(&mut self, now: Instant) -> Result<Instant, Error> {
        let Some(group) = &mut self.group else { return Ok(now) };
        if group.has_grown() && due(self.committed, self.intervals.commit, now) {
            self.committed = Some(now);
            group.commit()?;
        }
        if self.paused.is_some_and(|since| now >= since + PAUSE_AFTER) && !group.is_paused() {
            group.pause()?;
        }
        if group.signal().take_event() || due(self.served, self.intervals.serve, now) {
            self.served = Some(now);
            group.serve()?;
        }
        let mut next = self.served.unwrap_or(now) + self.intervals.serve;
        if group.has_grown() {
            next = next.min(self.committed.unwrap_or(now) + self.intervals.commit);
        }
        if let Some(since) = self.paused.filter(|_| !group.is_paused()) {
            next = next.min(since + PAUSE_AFTER);
        }
        Ok(next)
    }

    /// Wakes the task then.
    fn wake_at(&mut self, then: Instant, cx: &mut Context<'_>) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(then)));
        if timer.deadline() != then {
            timer.as_mut().reset(then);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Delivery, Error>>> {
        if error.is_fatal() {
            self.fatal = Some(error.clone());
        }
        Poll::Ready(Some(Err(error)))
    }
}

fn due(last: Option<Instant>, every: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now >= last + every)
}

impl<C: ClientContext + 'static> consumer::Source for Source<C> {
    type Delivery = Delivery;
    type Error = Error;

    fn prefetch(&self) -> usize {
        self.prefetch
    }

    /// Never: the consumer calls the handler again itself.
    fn redelivers(&self) -> bool {
        false
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Delivery, Error>>> {
        let Some(group) = &self.group else { return Poll::Ready(None) };
        // Before anything is looked at: what comes after that wakes the task.
        group.signal().register(cx.waker());
        if let Some(error) = self.failed.take().or_else(|| self.fatal.clone()) {
            return self.fail(error);
        }
        let next = match self.keep_up(Instant::now()) {
            Ok(next) => next,
            Err(error) => return self.fail(error),
        };
        if room > 0 && self.paused.is_none() {
            match self.group.as_mut().and_then(Group::next) {
                Some(Ok(delivery)) => return Poll::Ready(Some(Ok(delivery))),
                Some(Err(error)) => return self.fail(error),
                None => {}
            }
        }
        self.wake_at(next, cx);
        Poll::Pending
    }

    /// Nothing is handed out from here on. The brokers are asked for nothing more when it has lasted
    /// a second: that throws away what librdkafka has fetched in advance, which a short pause is not
    /// worth.
    fn pause(&mut self) {
        self.paused.get_or_insert_with(Instant::now);
    }

    fn resume(&mut self) {
        self.paused = None;
        if let Some(Err(error)) = self.group.as_mut().map(Group::resume) {
            self.failed = Some(error);
        }
    }

    /// Commits what is settled, waits for the broker to confirm it, and leaves the group.
    ///
    /// Returns after four and a half seconds at the latest, with no broker there. What is not committed by
    /// then is in the error; the client goes on trying in the background, for `session.timeout.ms`, and
    /// leaves the group after that. With a `group.instance.id` it does not leave: the group keeps its
    /// partitions for it, until its session is over.
    async fn close(&mut self) -> Result<(), Error> {
        let Some(mut group) = self.group.take() else { return Ok(()) };
        let until = Instant::now() + FOR_THE_END;
        let (tell, committed) = oneshot::channel();
        let (leaving, left) = oneshot::channel::<()>();
        in_a_thread(move || {
            // Nobody listens any more if they were in a hurry.
            let _ = tell.send(group.commit_last());
            group.leave();
            drop(leaving);
        });
        // Where there was no thread to be had, nothing was committed.
        let committed = committed.await.unwrap_or(Err(Error::Client(KafkaError::Canceled)));
        // What is committed is committed, whether or not there is time to say goodbye.
        let _ = timeout_at(until, left).await;
        committed
    }
}

impl<C: ClientContext + 'static> Drop for Source<C> {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        in_a_thread(move || {
            // What cannot be committed is delivered again, and there is nobody to tell.
            let _ = group.commit_last();
            group.leave();
        });
    }
}

/// Not one of tokio's: librdkafka waits for the broker here, for ever if that answers wrongly, and a
/// runtime that shuts down would wait with it.
fn in_a_thread(leave: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("kafka-leave".into());
    // Where there is no thread to be had, what was to run in it is dropped, which leaves the group too.
    let _ = thread.spawn(leave);
}

impl<C: ClientContext + 'static> fmt::Debug for Source<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("prefetch", &self.prefetch)
            .field("paused", &self.paused.is_some())
            .finish_non_exhaustive()
    }
}
