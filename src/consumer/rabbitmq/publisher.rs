use std::{collections::HashSet, pin::pin, sync::OnceLock, time::Duration};

use bytes::Bytes;
use lapin::{BasicProperties, ConnectionStatus, PublisherConfirm, message::BasicReturnMessage};
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What became of a copy, once that is known. An error leaves open whether it is stored.
pub(super) type Storing = oneshot::Receiver<Result<(), Error>>;

impl Publisher {
    pub(super) fn new(connect: Connect, timeout: Duration) -> Self {
        Publisher { connect, timeout, jobs: OnceLock::new() }
    }

    /// Begins to store a copy, and goes on with that whether anybody waits for it or not.
    pub(super) fn store(&self, copy: Copy) -> Storing {
        let (stored, answer) = oneshot::channel();
        let jobs = self.jobs.get_or_init(|| self.start());
        // Without a task, nobody answers.
        let _ = jobs.send(Job { copy, stored });
        answer
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
        let mut patience = Patience::new(self.timeout);
        // First all the targets: one that is missing costs the channel what is unconfirmed on it. Each
        // is looked for once, however many go there.
        let mut missing: Vec<(Target, Error)> = Vec::new();
        let mut found = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            let target = &job.copy.target;
            if let Some((_, error)) = missing.iter().find(|(other, _)| other == target) {
                job.tell(Err(error.clone()));
            } else if let Err(error) = self.find(target, &mut patience).await {
                missing.push((target.clone(), error.clone()));
                job.tell(Err(error));
            } else {
                found.push(job);
            }
        }
        let mut published = Vec::with_capacity(found.len());
        for job in found {
            match self.publish(&job.copy, &mut patience).await {
                Ok(confirmed) => published.push((job, confirmed)),
                Err(error) => job.tell(Err(error)),
            }
        }
        let status = self.link.as_ref().map(Link::status);
        let (mut returned, mut doubtful) = (HashSet::new(), HashSet::new());
        let mut outcomes = Vec::with_capacity(published.len());
        for (job, confirmed) in published {
            let confirmed = async { Ok(confirmed.await?) };
            let outcome = patience.wait(status.as_ref(), confirmed).await.and_then(|confirmed| {
                let stored = confirmed.is_ack();
                if let Some(came_back) = confirmed.take_message().as_ref().and_then(id_of) {
                    returned.insert(came_back);
                    // It may have come back itself, behind that one.
                    doubtful.insert(job.copy.id);
                }
                if stored { Ok(()) } else { Err(Error::NotStored) }
            });
            outcomes.push((job, outcome));
        }
        // Confirmations that did not come may have had returned messages with them.
        let broken = outcomes.iter().find_map(|(_, outcome)| match outcome {
            Ok(()) | Err(Error::NotStored) => None,
            Err(error) => Some(error.clone()),
        });
        if let Some(Error::NoAnswer(_)) = broken {
            // What is said later on this channel must not be taken for the answer to something else.
            self.link = None;
        }
        for (job, outcome) in outcomes {
            let outcome = match &broken {
                _ if returned.contains(&job.copy.id) => Err(self.unroutable(&job.copy.target)),
                Some(error) if doubtful.contains(&job.copy.id) => Err(error.clone()),
                _ => outcome,
            };
            job.tell(outcome);
        }
    }

    /// Makes sure that the target is there. If it is not, that costs the channel.
    async fn find(&mut self, target: &Target, patience: &mut Patience) -> Result<(), Error> {
        let link = self.linked(patience).await?;
        let status = link.status();
        let found = patience.wait(Some(&status), link.find(target)).await;
        if let Err(Error::NoAnswer(_)) = found {
            self.link = None;
        }
        found
    }

    async fn publish(
        &mut self,
        copy: &Copy,
        patience: &mut Patience,
    ) -> Result<PublisherConfirm, Error> {
        let link = self.linked(patience).await?;
        let published = patience.wait(Some(&link.status()), link.publish(copy)).await;
        if published.is_err() {
            self.link = None;
        }
        published
    }

    /// The open channel, a new one if need be.
    async fn linked(&mut self, patience: &mut Patience) -> Result<&mut Link, Error> {
        let link = match self.link.take() {
            Some(link) if link.is_open() => link,
            // What closes a channel need not cost the connection.
            Some(link) if link.status().connected() => patience.wait(None, link.reopen()).await?,
            _ => patience.wait(None, Link::open(&self.connect)).await?,
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

/// For how long the broker is waited for.
///
/// One that is short of memory or disk stops reading from connections that publish, and says so. What has
/// been published on such a connection is stored when that is over; so it is waited for that long. To
/// give up and publish it again on another connection would store it once for each.
struct Patience {
    timeout: Duration,
    until: Instant,
    was_blocked: bool,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Patience { timeout, until: Instant::now() + timeout, was_blocked: false }
    }

    /// What the broker answers in time, on a connection of this status.
    async fn wait<T>(
        &mut self,
        status: Option<&ConnectionStatus>,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut answer = pin!(answer);
        loop {
            if let Ok(answer) = timeout_at(self.until, answer.as_mut()).await {
                return answer;
            }
            let is_blocked = status.is_some_and(ConnectionStatus::blocked);
            if !is_blocked && !self.was_blocked {
                return Err(Error::NoAnswer(self.timeout));
            }
            // And after the end of it once more.
            (self.was_blocked, self.until) = (is_blocked, Instant::now() + self.timeout);
        }
    }
}

/// The id of a copy that came back.
fn id_of(returned: &BasicReturnMessage) -> Option<i64> {
    number(returned.properties.headers().as_ref()?.inner().get(copy::COPY)?)
}
