use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_nats::{
    StatusCode, Subject, Subscriber,
    jetstream::{
        AckKind,
        consumer::{PullConsumer, pull::BatchConfig},
    },
};
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{
    DeadLetters, Delivery, Error, Message, SourceBuilder, link::Link, message::Place, pull::Pull,
    terms::Terms,
};
use crate::{consumer::Source as ConsumerSource, error::BoxError};

/// How often the server says that a request without messages is still with it.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often, while messages may arrive, it is looked whether anything did and which connection this is.
const TICK: Duration = Duration::from_secs(1);
/// After so many silent ticks the server is taken to have forgotten the requests: two heartbeats, and time
/// for the second to be late.
const SILENCE: u32 = 5;
/// How long room for a few messages is left to grow before it is asked for.
const LINGER: Duration = Duration::from_millis(1);
/// How long a request counts after the server must have ended it.
const GRACE: Duration = Duration::from_secs(2);
/// How long at most the end waits for what is still on its way here.
const DRAIN: Duration = Duration::from_secs(1);

type Cold<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The messages of a JetStream pull consumer.
///
/// See the [module](super) for what it does, and [`SourceBuilder`] for its settings.
pub struct Source {
    link: Arc<Link>,
    prefetch: usize,
    subscription: Subscription,
    pull: Pull,
    paused: bool,
    /// A request on its way into the client: one allocation for up to `prefetch` messages.
    asking: Option<Cold<()>>,
    /// Why the subscription has to be made anew, until it is.
    stale: Option<Stale>,
    renewing: Option<Cold<Subscription>>,
    /// Something has come from the server since the last tick.
    heard: bool,
    /// Ticks without.
    silent: u32,
    tick: Pin<Box<Sleep>>,
    linger: Pin<Box<Sleep>>,
    lingering: bool,
}

/// Where messages arrive, and for whom.
pub(super) struct Subscription {
    pub(super) consumer: Arc<PullConsumer>,
    terms: Terms,
    messages: Subscriber,
    /// Requests for messages are answered to this, a dot and their number.
    inbox: String,
    /// The connection that it was made on.
    connects: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// Nothing comes, not even a heartbeat.
    Silent,
    /// The connection is another one, or the server refused to go on.
    Ended,
}

/// What a message of the subscription turned out to be.
enum Received {
    Delivery(Delivery),
    /// What is in hand already.
    Again,
    Status,
    Failure(Error),
}

/// Looks at the consumer and makes a subscription for its messages, under a subject of its own: on an
/// old one, messages for requests made before a connection was lost may still arrive, beside
/// those that are asked for anew.
pub(super) async fn subscribe(link: Arc<Link>, prefetch: usize) -> Result<Subscription, Error> {
    let unavailable = |cause| Error::Unavailable {
        stream: link.stream.clone(),
        consumer: link.consumer.clone(),
        cause,
    };
    let consumer = link.context.get_consumer_from_stream(&link.consumer, &link.stream);
    let consumer: PullConsumer = match timeout(link.confirm_within, consumer).await {
        Ok(Ok(consumer)) => consumer,
        Ok(Err(error)) => return Err(unavailable(error.into())),
        Err(_) => return Err(unavailable(Error::NotConfirmed(link.confirm_within).into())),
    };
    let terms = Terms::of(consumer.cached_info(), prefetch)?;
    // It has just answered, so this is the connection that the subscription is made on.
    let connects = link.connects();
    let inbox = link.client.new_inbox();
    let messages = link.client.subscribe(format!("{inbox}.*")).await;
    let messages = messages.map_err(|error| Error::Client(error.into()))?;
    Ok(Subscription { consumer: Arc::new(consumer), terms, messages, inbox, connects })
}

impl Source {
    /// Begins with what it is to read: the durable consumer `consumer` of `stream`, which exist already,
    /// and where dead letters go.
    ///
    /// A context with a [timeout](async_nats::jetstream::ContextBuilder::timeout), a prefix or a domain is
    /// used as it is.
    pub fn builder(
        context: async_nats::jetstream::Context,
        stream: impl Into<String>,
        consumer: impl Into<String>,
        dead_letters: DeadLetters,
    ) -> SourceBuilder {
        SourceBuilder::new(context, stream.into(), consumer.into(), dead_letters)
    }

    pub(super) fn new(link: Arc<Link>, prefetch: usize, subscription: Subscription) -> Self {
        let now = Instant::now();
        Source {
            link,
            prefetch,
            subscription,
            pull: Pull::default(),
            paused: false,
            asking: None,
            stale: None,
            renewing: None,
            heard: false,
            silent: 0,
            tick: Box::pin(sleep_until(now)),
            linger: Box::pin(sleep_until(now)),
            lingering: false,
        }
    }

    fn receive(&mut self, mut message: async_nats::Message) -> Received {
        self.heard = true;
        if self.stale == Some(Stale::Silent) {
            // It was late, not gone.
            self.stale = None;
            self.renewing = None;
        }
        // What is to be acknowledged is a stream's, whatever its publisher wrote into its status line.
        let reply = message.reply.take().and_then(|reply| Some((Place::of(&reply)?, reply)));
        if let Some((place, reply)) = reply {
            self.pull.served();
            return self.deliver(message, place, reply);
        }
        match message.status {
            None | Some(StatusCode::OK) => {
                let error = format!("a message on {:?} that is not JetStream's", message.subject);
                Received::Failure(Error::Client(error.into()))
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Received::Status,
            Some(status) => self.ended(status, &message),
        }
    }

    fn deliver(&self, message: async_nats::Message, place: Place, reply: Subject) -> Received {
        let message = Message::assemble(message.subject, message.headers, message.payload, place);
        let every = self.subscription.terms.extend_every;
        Delivery::new(message, reply, &self.link, every).map_or(Received::Again, Received::Delivery)
    }

    /// The end of a request, with or without an error.
    fn ended(&mut self, status: StatusCode, message: &async_nats::Message) -> Received {
        if let Some(number) = message.subject.rsplit('.').next().and_then(|n| n.parse().ok()) {
            self.pull.ended(number);
        }
        let description = message.description.clone().unwrap_or_default();
        match status {
            // It had no message in its time.
            StatusCode::TIMEOUT | StatusCode::NOT_FOUND => return Received::Status,
            StatusCode::REQUEST_TERMINATED if description == "Batch Completed" => {
                return Received::Status;
            }
            // There is nobody behind the consumer's subject.
            StatusCode::NO_RESPONDERS => self.stale = Some(Stale::Ended),
            _ if description.starts_with("Consumer ") => self.stale = Some(Stale::Ended),
            // A limit of the consumer that is new.
            _ if description.starts_with("Exceeded MaxRequest") => self.stale = Some(Stale::Ended),
            // The server stops, the consumer moves to another, too many wait: it may be asked again.
            _ => {}
        }
        Received::Failure(Error::Refused { status: status.as_u16(), description })
    }

    /// Asks for that many messages.
    fn ask(&mut self, messages: usize) {
        self.lingering = false;
        // A request that the client kept until it has connected again would be one made on the old
        // subscription, and the messages for it lost with that.
        if self.link.connects() != self.subscription.connects || !self.link.connected() {
            self.stale = Some(Stale::Ended);
            return;
        }
        let now = Instant::now();
        self.heard = false;
        self.silent = 0;
        self.tick.as_mut().reset(now + TICK);
        let Subscription { consumer, terms, inbox, .. } = &self.subscription;
        let number = self.pull.begin(messages, now + terms.expires + GRACE);
        let request = BatchConfig {
            batch: messages,
            expires: Some(terms.expires),
            // The server refuses one that could not come twice before the end.
            idle_heartbeat: HEARTBEAT.min(terms.expires / 2),
            ..BatchConfig::default()
        };
        let (consumer, inbox) = (Arc::clone(consumer), Subject::from(format!("{inbox}.{number}")));
        self.asking = Some(Box::pin(async move {
            let asked = consumer.request_batch(request, inbox).await;
            asked.map_err(|error| Error::Client(error.into()))
        }));
    }

    /// How many messages are asked for now, of those there is room for.
    ///
    /// Not for one at a time as they are settled, for each request costs the server more than
    /// a message: when room for a quarter of the prefetch has come together, or what has come together
    /// within a millisecond. So a handler that takes long never waits for others, and one that is quick
    /// shares the request with many.
    fn wanted(&mut self, cx: &mut Context<'_>, room: usize) -> Option<usize> {
        if self.pull.outstanding() > 0 || room == 0 {
            return None;
        }
        let messages = room.min(self.subscription.terms.batch);
        if room >= self.prefetch.div_ceil(4) {
            return Some(messages);
        }
        if !self.lingering {
            self.lingering = true;
            self.linger.as_mut().reset(Instant::now() + LINGER);
        }
        self.linger.as_mut().poll(cx).is_ready().then_some(messages)
    }

    /// Watches over what arrives, while anything may.
    fn watch(&mut self, cx: &mut Context<'_>) {
        while self.pull.outstanding() > 0 && self.tick.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.tick.as_mut().reset(now + TICK);
            self.silent = if self.heard { 0 } else { self.silent + 1 };
            self.heard = false;
            if self.link.connects() != self.subscription.connects || self.pull.is_lost(now) {
                self.stale = Some(Stale::Ended);
            } else if self.silent >= SILENCE && self.stale.is_none() {
                self.stale = Some(Stale::Silent);
            }
        }
    }

    /// Makes the subscription anew. What has arrived on the old one has been handed over.
    fn poll_renew(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (link, prefetch) = (&self.link, self.prefetch);
        let renewing =
            self.renewing.get_or_insert_with(|| Box::pin(subscribe(Arc::clone(link), prefetch)));
        let renewed = std::task::ready!(renewing.as_mut().poll(cx));
        self.renewing = None;
        self.subscription = renewed?;
        self.stale = None;
        self.asking = None;
        self.pull.over();
        Poll::Ready(Ok(()))
    }
}

impl ConsumerSource for Source {
    type Delivery = Delivery;
    type Error = Error;

    fn prefetch(&self) -> usize {
        self.prefetch
    }

    fn extend_every(&self) -> Option<Duration> {
        Some(self.subscription.terms.extend_every)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Delivery, Error>>> {
        loop {
            if let Some(asking) = &mut self.asking
                && let Poll::Ready(asked) = asking.as_mut().poll(cx)
            {
                self.asking = None;
                if let Err(error) = asked {
                    self.pull.over();
                    self.stale = Some(Stale::Ended);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            // Whatever the room is now: there was room for it when it was asked for, and a request
            // cannot be taken back.
            match Pin::new(&mut self.subscription.messages).poll_next(cx) {
                Poll::Ready(Some(message)) => match self.receive(message) {
                    Received::Delivery(delivery) => return Poll::Ready(Some(Ok(delivery))),
                    Received::Failure(error) => return Poll::Ready(Some(Err(error))),
                    Received::Again | Received::Status => continue,
                },
                // The client has closed the subscription, and itself.
                Poll::Ready(None) => self.stale = Some(Stale::Ended),
                Poll::Pending => {}
            }
            self.watch(cx);
            if self.stale.is_some() {
                match self.poll_renew(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.paused || self.asking.is_some() {
                return Poll::Pending;
            }
            match self.wanted(cx, room) {
                Some(messages) => self.ask(messages),
                None => return Poll::Pending,
            }
        }
    }

    fn pause(&mut self) {
        self.paused = true;
        self.lingering = false;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    /// Ends the subscription, and gives back at once what still arrived on it.
    async fn close(&mut self) -> Result<(), Error> {
        self.paused = true;
        self.asking = None;
        self.renewing = None;
        let (link, messages) = (&self.link, &mut self.subscription.messages);
        let given_back = async {
            // First the end of the subscription: what is given back must not come here again.
            messages.drain().await?;
            let mut replies: Vec<Subject> = Vec::new();
            while let Some(message) = poll_fn(|cx| Pin::new(&mut *messages).poll_next(cx)).await {
                replies.extend(message.reply.filter(|reply| Place::of(reply).is_some()));
            }
            for reply in replies {
                link.client.publish(reply, AckKind::Nak(None).into()).await?;
            }
            Ok::<_, BoxError>(())
        };
        // What does not succeed comes again when its time is up.
        let _ = timeout(DRAIN, given_back).await;
        // What was said last must have left before the process may.
        match timeout(link.confirm_within, link.client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Client(error.into())),
            Err(_) => Err(Error::NotConfirmed(link.confirm_within)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("stream", &self.link.stream)
            .field("consumer", &self.link.consumer)
            .field("prefetch", &self.prefetch)
            .field("paused", &self.paused)
            .field("outstanding", &self.pull.outstanding())
            .finish_non_exhaustive()
    }
}
