use std::{collections::HashSet, sync::OnceLock, time::Duration};

use bytes::Bytes;
use lapin::{BasicProperties, PublisherConfirm, message::BasicReturnMessage};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{Error, connection::Connect, copy, delay::DelayQueue, link::Link, message::number};

/// How many copies are published before the confirmations of the first are waited for.
const BATCH: usize = 64;

/// Stores copies of messages, and says so when the broker has confirmed it.
///
/// Behind it is one task with a connection of its own. The connection: a broker that is short of
/// memory or disk stops reading from those that publish, and would hear no acknowledgement on them
/// either. The task: see [`Task::store_all`]. Both begin when there is something to store.
#[derive(Debug)]
pub(super) struct Publisher {
    connect: Connect,
    timeout: Duration,
    /// Not bounded: there is at most one job for each unacknowledged delivery.
    jobs: OnceLock<mpsc::UnboundedSender<Job>>,
}

/// Where a copy goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Queue(String),
    Exchange { exchange: String, routing_key: String },
    Delay(DelayQueue),
}

impl Target {
    /// The exchange and the key to publish with.
    pub(super) fn address(&self) -> (&str, &str) {
        match self {
            Target::Queue(queue) => ("", queue),
            Target::Exchange { exchange, routing_key } => (exchange, routing_key),
            Target::Delay(queue) => ("", &queue.name),
        }
    }
}

#[derive(Debug)]
pub(super) struct Copy {
    pub(super) target: Target,
    /// Tells it from all others. It is among the headers too.
    pub(super) id: i64,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

#[derive(Debug)]
struct Job {
    copy: Copy,
    stored: oneshot::Sender<Result<(), Error>>,
}

impl Job {
    fn tell(self, stored: Result<(), Error>) {
        // Whoever asked may have gone.
        let _ = self.stored.send(stored);
    }
}

impl Publisher {
    pub(super) fn new(connect: Connect, timeout: Duration) -> Self {
        Publisher { connect, timeout, jobs: OnceLock::new() }
    }

    /// Stores a copy. An error leaves open whether it is stored.
    ///
    /// # Cancel safety
    ///
    /// So does dropping it.
    pub(super) async fn store(&self, copy: Copy) -> Result<(), Error> {
        let (stored, answer) = oneshot::channel();
        let jobs = self.jobs.get_or_init(|| self.start());
        jobs.send(Job { copy, stored }).map_err(|_| Error::ShutDown)?;
        answer.await.unwrap_or(Err(Error::ShutDown))
    }

    fn start(&self) -> mpsc::UnboundedSender<Job> {
        let (sender, jobs) = mpsc::unbounded_channel();
        let connect = self.connect.clone();
        tokio::spawn(Task { connect, timeout: self.timeout, link: None }.run(jobs));
        sender
    }
}

/// The task that stores copies.
struct Task {
    connect: Connect,
    timeout: Duration,
    link: Option<Link>,
}

impl Task {
    /// Until nobody is left who could ask for more.
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.recv_many(&mut batch, BATCH).await > 0 {
            self.store_all(&mut batch).await;
        }
    }

    /// Stores some copies, and tells of each what became of it.
    ///
    /// A copy that no queue takes is returned by the broker, and then confirmed like any other. lapin
    /// hands out a returned message with whichever confirmation it comes upon next, and where the
    /// broker confirms several messages at once, that may be another's. So the returned ones are
    /// collected over all that were unconfirmed at the same time, and told apart by their id. It
    /// is for this that one task stores all copies, some at a time.
    async fn store_all(&mut self, batch: &mut Vec<Job>) {
        let deadline = Instant::now() + self.timeout;
        // First all the targets: one that is missing costs the channel what is unconfirmed on it.
        let mut found = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            match self.find(&job.copy.target, deadline).await {
                Ok(()) => found.push(job),
                Err(error) => job.tell(Err(error)),
            }
        }
        let mut published = Vec::with_capacity(found.len());
        for job in found {
            match self.publish(&job.copy, deadline).await {
                Ok(confirmed) => published.push((job, confirmed)),
                Err(error) => job.tell(Err(error)),
            }
        }
        let mut returned = HashSet::new();
        let mut outcomes = Vec::with_capacity(published.len());
        for (job, confirmed) in published {
            let confirmed = by(deadline, self.timeout, async { Ok(confirmed.await?) }).await;
            let outcome = confirmed.and_then(|confirmation| {
                let stored = confirmation.is_ack();
                returned.extend(confirmation.take_message().as_ref().and_then(id_of));
                if stored { Ok(()) } else { Err(Error::NotStored) }
            });
            outcomes.push((job, outcome));
        }
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Err(Error::NoAnswer(_)))) {
            // What is said later on this channel must not be taken for the answer to something else.
            self.link = None;
        }
        for (job, outcome) in outcomes {
            if returned.contains(&job.copy.id) {
                let error = self.unroutable(&job.copy.target);
                job.tell(Err(error));
            } else {
                job.tell(outcome);
            }
        }
    }

    /// Makes sure that the target is there. If it is not, that costs the channel.
    async fn find(&mut self, target: &Target, deadline: Instant) -> Result<(), Error> {
        let timeout = self.timeout;
        let link = self.linked(deadline).await?;
        let found = by(deadline, timeout, link.find(target)).await;
        if found.is_err() {
            self.link = None;
        }
        found
    }

    async fn publish(&mut self, copy: &Copy, deadline: Instant) -> Result<PublisherConfirm, Error> {
        let timeout = self.timeout;
        let link = self.linked(deadline).await?;
        let published = by(deadline, timeout, link.publish(copy)).await;
        if published.is_err() {
            self.link = None;
        }
        published
    }

    /// The open channel, a new one if need be.
    async fn linked(&mut self, deadline: Instant) -> Result<&mut Link, Error> {
        let link = match self.link.take().filter(Link::is_open) {
            Some(link) => link,
            None => by(deadline, self.timeout, Link::open(&self.connect)).await?,
        };
        Ok(self.link.insert(link))
    }

    /// The error for a copy that came back, after which its target has to be found again.
    fn unroutable(&mut self, target: &Target) -> Error {
        let (exchange, routing_key) = target.address();
        if let Some(link) = &mut self.link {
            link.forget(target);
        }
        Error::Unroutable { exchange: exchange.into(), routing_key: routing_key.into() }
    }
}

/// What the broker answers by then.
async fn by<T>(
    deadline: Instant,
    timeout: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout_at(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::NoAnswer(timeout)),
    }
}

/// The id of a copy that came back.
fn id_of(returned: &BasicReturnMessage) -> Option<i64> {
    number(returned.properties.headers().as_ref()?.inner().get(copy::COPY)?)
}
