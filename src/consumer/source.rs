use std::{
    error::Error,
    task::{Context, Poll},
    time::Duration,
};

use super::{Settle, SettleError};

/// Where deliveries come from: one subscription to a broker.
///
/// A [`Consumer`](super::Consumer) polls it, from one task. The adapters for
/// [NATS](super::nats), [RabbitMQ](super::rabbitmq) and [Kafka](super::kafka) are sources; write
/// your own for another broker. It is poll-driven, like a `Stream`, because how much the consumer
/// can take changes while it waits: `room` is told at each poll.
///
/// # What a source promises
///
/// - **It holds nothing back.** A delivery it has taken from the broker is handed over at the next
///   poll. One that lay in a buffer of the client would get no heartbeat there.
/// - **It asks for no more than there is room for**, counting what it has asked for and not yet handed
///   over.
/// - **It comes back by itself.** After an error the consumer polls again, later and later; the
///   source then connects anew, where its client does not do that by itself. Only `None` ends it.
///
/// # Example
///
/// A source over a client whose calls are async, of a broker that lends out its messages:
///
/// ```
/// use std::{collections::VecDeque, io, pin::Pin, sync::Arc, task::{Context, Poll, ready}, time::Duration};
///
/// use buttress::consumer::{Delivery, Settle, SettleError, Source};
///
/// # #[derive(Clone)]
/// # struct Client;
/// # impl Client {
/// #     async fn take(&self, _: usize) -> io::Result<Vec<Job>> { Ok(Vec::new()) }
/// #     async fn done(&self, _: u64) -> io::Result<()> { Ok(()) }
/// #     async fn later(&self, _: u64, _: Duration) -> io::Result<()> { Ok(()) }
/// #     async fn bury(&self, _: u64, _: &str) -> io::Result<()> { Ok(()) }
/// #     async fn give_back(&self, _: u64) -> io::Result<()> { Ok(()) }
/// #     async fn extend(&self, _: u64) -> io::Result<()> { Ok(()) }
/// # }
/// struct Job {
///     id: u64,
///     deliveries: u32,
///     body: Arc<[u8]>,
/// }
///
/// struct Jobs {
///     client: Client,
///     paused: bool,
///     /// What it was asked for; it answers when there is something.
///     asked: Option<Pin<Box<dyn Future<Output = io::Result<Vec<Job>>> + Send>>>,
///     arrived: VecDeque<Job>,
/// }
///
/// impl Source for Jobs {
///     type Delivery = Lent;
///     type Error = io::Error;
///
///     fn prefetch(&self) -> usize {
///         64
///     }
///
///     // They are lent for half a minute.
///     fn extend_every(&self) -> Option<Duration> {
///         Some(Duration::from_secs(10))
///     }
///
///     fn poll_next(
///         &mut self,
///         cx: &mut Context<'_>,
///         room: usize,
///     ) -> Poll<Option<Result<Lent, io::Error>>> {
///         loop {
///             if let Some(job) = self.arrived.pop_front() {
///                 return Poll::Ready(Some(Ok(Lent { client: self.client.clone(), job })));
///             }
///             if self.asked.is_none() && (self.paused || room == 0) {
///                 return Poll::Pending;
///             }
///             let asked = self.asked.get_or_insert_with(|| {
///                 let client = self.client.clone();
///                 Box::pin(async move { client.take(room).await })
///             });
///             let answer = ready!(asked.as_mut().poll(cx));
///             self.asked = None;
///             self.arrived = answer?.into();
///         }
///     }
///
///     fn pause(&mut self) {
///         self.paused = true;
///     }
///
///     fn resume(&mut self) {
///         self.paused = false;
///     }
///
///     async fn close(&mut self) -> io::Result<()> {
///         if let Some(asked) = self.asked.take() {
///             self.arrived.extend(asked.await?);
///         }
///         for job in self.arrived.drain(..) {
///             self.client.give_back(job.id).await?;
///         }
///         Ok(())
///     }
/// }
///
/// struct Lent {
///     client: Client,
///     job: Job,
/// }
///
/// impl Delivery for Lent {
///     type Payload = Arc<[u8]>;
///
///     fn payload(&self) -> Arc<[u8]> {
///         self.job.body.clone()
///     }
///
///     fn attempt(&self) -> Option<u32> {
///         Some(self.job.deliveries)
///     }
///
///     async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
///         let (client, id) = (&self.client, self.job.id);
///         let told = match settle {
///             Settle::Ack => client.done(id).await,
///             Settle::Retry { after } => client.later(id, *after).await,
///             Settle::DeadLetter { reason } => client.bury(id, reason).await,
///             Settle::Release => client.give_back(id).await,
///         };
///         told.map_err(not_told)
///     }
///
///     fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
///         let (client, id) = (self.client.clone(), self.job.id);
///         async move { client.extend(id).await.map_err(not_told) }
///     }
/// }
///
/// fn not_told(error: io::Error) -> SettleError {
///     match error.kind() {
///         io::ErrorKind::NotFound => SettleError::lost(error), // somebody else has it by now
///         _ => SettleError::unconfirmed(error),
///     }
/// }
/// # fn is_source<S: Source>() {}
/// # is_source::<Jobs>();
/// ```
pub trait Source: Send + 'static {
    /// What it delivers.
    type Delivery: Delivery;
    /// What goes wrong with it: the connection, the subscription.
    type Error: Error + Send + Sync + 'static;

    /// How many deliveries may be unsettled at one time, at least 1: the broker's *prefetch*, or
    /// *max ack pending*. The consumer never holds more.
    fn prefetch(&self) -> usize;

    /// How often a delivery must be [extended](Delivery::extend), so that the broker does not take
    /// it for lost. `None` if it never does.
    fn extend_every(&self) -> Option<Duration> {
        None
    }

    /// Whether the broker can deliver a message again after a while, as [`Settle::Retry`] asks for.
    ///
    /// Where it cannot, the consumer keeps the delivery in hand and calls the handler again itself,
    /// and this source is never given a `Retry`.
    fn redelivers(&self) -> bool {
        true
    }

    /// The next delivery, `None` when there will not be another.
    ///
    /// `room` is how many deliveries the consumer can take now. At zero, or while paused, it asks the
    /// broker for nothing, and uses the poll for what its client needs to stay alive; what it had asked
    /// for before, and comes now, it hands over all the same. It wakes the task when there is something
    /// to hand out, and need not for room: whenever that changes it is polled again.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Self::Delivery, Self::Error>>>;

    /// Asks the broker for nothing more until [`resume`](Self::resume). It goes on being polled.
    fn pause(&mut self);

    /// Asks the broker for deliveries again.
    fn resume(&mut self);

    /// The end: everything is settled, as far as it could be. What is still to be made sure of is
    /// made sure of here. The source is not polled again, so what it has asked for and not handed over
    /// it gives back to the broker itself. It has five seconds.
    ///
    /// # Errors
    ///
    /// What could not be confirmed.
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One message that the broker has handed out and waits to hear about.
///
/// The consumer owns it until it is settled; the handler sees only its [payload](Self::payload).
/// Dropped without having been settled, it is the broker's again, which delivers it once more when
/// it notices.
pub trait Delivery: Send + 'static {
    /// What the handler gets. A clone of it must be cheap: a retry in the handler's stack makes
    /// one for each attempt.
    type Payload: Clone + Send + 'static;

    /// What the handler gets.
    fn payload(&self) -> Self::Payload;

    /// How often this message has been delivered, this time included; so 1 for the first. `None` if
    /// the broker does not count; then the consumer does, and for that it keeps a message that failed
    /// in hand until it is through with it.
    fn attempt(&self) -> Option<u32>;

    /// Messages of one key are handled one after the other where
    /// [order is asked for](super::ConsumerBuilder::ordered). `None` is not ordered.
    fn ordering_key(&self) -> Option<&[u8]> {
        None
    }

    /// Whether it has passed to somebody else already, as far as can be told without asking. The
    /// consumer does not hand such a delivery to the handler: the broker delivers it again, and it would be
    /// handled twice, and out of order.
    fn is_lost(&self) -> bool {
        false
    }

    /// Tells the broker what became of it, and waits until the broker has confirmed that, as far as it
    /// does. After an error that says [`Unconfirmed`](super::SettleErrorKind::Unconfirmed) it may be
    /// called again.
    ///
    /// A [dead letter](Settle::DeadLetter) is stored, and its storing confirmed, before the original
    /// is acknowledged. So is a [`Retry`](Settle::Retry) that stores a copy.
    ///
    /// It ends by itself, with an error if nothing else comes, and well within the time for which the
    /// broker lets a delivery be: the delivery gets no heartbeat meanwhile. (When it begins, the last one
    /// is at most [`extend_every`](Source::extend_every) old.) One that never ends holds up the end of the
    /// consumer, until the deadline of a shutdown.
    ///
    /// # Errors
    ///
    /// When the broker did not confirm it.
    fn settle(&mut self, settle: &Settle) -> impl Future<Output = Result<(), SettleError>> + Send;

    /// Tells the broker that it is still being worked on. Called every
    /// [`extend_every`](Source::extend_every), while it is held and while it is handled; not again
    /// before the last one has ended, which it therefore does by itself.
    ///
    /// # Errors
    ///
    /// When it could not be told; [`Lost`](super::SettleErrorKind::Lost) if the delivery has passed to
    /// somebody else.
    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        std::future::ready(Ok(()))
    }
}
