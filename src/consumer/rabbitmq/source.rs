use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    DeadLetters, Delivery, Error, SourceBuilder,
    builder::Reached,
    connection::{Connect, Subscription, within},
    publisher::Publisher,
};
use crate::consumer;

/// A queue of RabbitMQ, as a source of deliveries.
///
/// See the [module](super) for what it does and what it does not do.
#[derive(Debug)]
pub struct Source {
    settings: Arc<Settings>,
    state: State,
    paused: bool,
    /// Whom to wake when it is not paused any more, if it waits for that.
    waiting: Option<Waker>,
}

/// What a source and its deliveries share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) connect: Connect,
    pub(super) queue: String,
    pub(super) tag: String,
    pub(super) prefetch: u16,
    pub(super) timeout: Duration,
    pub(super) delayed_retry: bool,
    pub(super) order_by: OrderBy,
    pub(super) dead_letters: DeadLetters,
    pub(super) publisher: Publisher,
}

/// What orders messages where order is asked for.
#[derive(Clone, Debug)]
pub(super) enum OrderBy {
    RoutingKey,
    Header(String),
}

type Opening = Pin<Box<dyn Future<Output = Result<Subscription, Error>> + Send>>;

#[expect(clippy::large_enum_variant, reason = "a source has one of it, for hours")]
enum State {
    Disconnected,
    Connecting(Opening),
    Subscribed(Subscription),
    Closed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Disconnected => "Disconnected",
            State::Connecting(_) => "Connecting",
            State::Subscribed(_) => "Subscribed",
            State::Closed => "Closed",
        })
    }
}

impl Source {
    /// A source over this queue of the broker at this URI, such as
    /// `amqp://user:password@rabbit.internal:5672/%2f?heartbeat=10`; see lapin's
    /// [`Connection::connect`](lapin::Connection::connect) for what it may say.
    ///
    /// It connects when it is polled for the first time, so a broker that is not there yet is an
    /// error of the source, and no reason not to start.
    pub fn builder(
        uri: impl Into<String>,
        queue: impl Into<String>,
        dead_letters: DeadLetters,
    ) -> SourceBuilder {
        SourceBuilder::new(Reached::At(uri.into()), queue.into(), dead_letters)
    }

    /// A source that connects with this function, as often as it needs a connection: for TLS with
    /// certificates of your own, tokens that are renewed, several brokers in turn.
    ///
    /// The future is dropped when the [`timeout`](SourceBuilder::timeout) is over. But lapin goes on waiting for a
    /// broker that has accepted the connection and does not answer, in a thread and with a socket of its own: for
    /// each attempt, until the operating system gives it up. ([`builder`](Self::builder) ends that.)
    ///
    /// The connection must not come back by itself: leave lapin's
    /// [`enable_auto_recover`](lapin::ConnectionProperties::enable_auto_recover) off. A delivery that
    /// was lost with a connection must be known to be lost.
    pub fn connecting_with<F, Fut>(
        connect: F,
        queue: impl Into<String>,
        dead_letters: DeadLetters,
    ) -> SourceBuilder
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = lapin::Result<lapin::Connection>> + Send + 'static,
    {
        SourceBuilder::new(Reached::By(Connect::with(connect)), queue.into(), dead_letters)
    }

    pub(super) fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Source { settings, state: State::Disconnected, paused: false, waiting: None }
    }

    fn connect(&self) -> Opening {
        let settings = &self.settings;
        let opening = Subscription::open(
            settings.connect.clone(),
            settings.queue.as_str().into(),
            settings.tag.as_str().into(),
            settings.prefetch,
        );
        Box::pin(within(settings.timeout, opening))
    }

    fn lost(&mut self, error: Error) -> Poll<Option<Result<Delivery, Error>>> {
        self.state = State::Disconnected;
        Poll::Ready(Some(Err(error)))
    }
}

impl consumer::Source for Source {
    type Delivery = Delivery;
    type Error = Error;

    fn prefetch(&self) -> usize {
        self.settings.prefetch.into()
    }

    fn redelivers(&self) -> bool {
        self.settings.delayed_retry
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Delivery, Error>>> {
        loop {
            match &mut self.state {
                State::Disconnected if self.paused => {
                    self.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                State::Disconnected => self.state = State::Connecting(self.connect()),
                State::Connecting(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(subscription) => self.state = State::Subscribed(subscription),
                    Err(error) => return self.lost(error),
                },
                // What the broker has pushed stays in lapin's buffer, where nothing happens to it.
                State::Subscribed(_) if room == 0 => return Poll::Pending,
                State::Subscribed(subscription) => {
                    match ready!(Pin::new(&mut subscription.consumer).poll_next(cx)) {
                        // One whose channel has closed since is delivered again on the next.
                        Some(Ok(delivery)) if delivery.acker.poisoned() => {}
                        Some(Ok(delivery)) => {
                            let settings = self.settings.clone();
                            return Poll::Ready(Some(Ok(Delivery::new(delivery, settings))));
                        }
                        Some(Err(error)) => return self.lost(error.into()),
                        None => return self.lost(Error::Cancelled),
                    }
                }
                State::Closed => return Poll::Ready(None),
            }
        }
    }

    /// While paused it does not connect anew. It stays subscribed: at most `prefetch` messages are
    /// unsettled, and the broker sends no more than that.
    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Closes channel and connection in order. `Ok` says that the broker has heard all that it was
    /// told of deliveries; an error, that it may not have heard the last of it.
    async fn close(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Subscribed(subscription) => {
                within(self.settings.timeout, subscription.close()).await
            }
            State::Disconnected | State::Connecting(_) | State::Closed => Ok(()),
        }
    }
}
