use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer, RebalanceProtocol, base_consumer::PartitionQueue,
    },
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{
    DeadLetters, Delivery, Error, Message, Order,
    committer::Committer,
    context::{Change, Context},
    delivery::Assigned,
    offsets::Offsets,
    signal::Signal,
};
use crate::consumer::Delivery as _;

mod commits;

/// This member of the consumer group: the client, and the partitions it has.
///
/// Each partition is read from a queue of its own. So events are served, and `max.poll.interval.ms`
/// is kept, without taking a message; a partition can be left alone without pausing it; and one that
/// is far behind does not hold up the others.
pub(super) struct Group<C: ClientContext + 'static> {
    partitions: Vec<Partition<C>>,
    /// The partition whose turn it is.
    turn: usize,
    /// Messages that came by the common queue, which they should not.
    stray: VecDeque<Delivery>,
    paused: bool,
    /// Errors told since the last message.
    told: Vec<Option<RDKafkaErrorCode>>,
    signal: Arc<Signal>,
    grown: Arc<AtomicBool>,
    /// A commit is on its way.
    committing: bool,
    /// Why the last one failed.
    commit_failed: Option<KafkaError>,
    settings: Settings,
    committer: Committer,
    consumer: Arc<BaseConsumer<Context<C>>>,
}

/// What a partition needs to know when it is assigned.
pub(super) struct Settings {
    pub(super) max_span: usize,
    pub(super) order: Order,
    pub(super) dead_letters: Arc<DeadLetters>,
}

struct Partition<C: ClientContext + 'static> {
    assigned: Arc<Assigned>,
    /// Set by librdkafka when the queue is no longer empty, cleared by us when it is.
    ready: Arc<AtomicBool>,
    queue: PartitionQueue<Context<C>>,
}

impl<C: ClientContext + 'static> Group<C> {
    pub(super) fn join(
        config: &ClientConfig,
        context: C,
        topics: &[&str],
        settings: Settings,
    ) -> KafkaResult<Self> {
        let mut consumer: BaseConsumer<_> = config.create_with_context(Context::new(context))?;
        let signal = Arc::new(Signal::default());
        consumer.set_nonempty_callback({
            let signal = Arc::clone(&signal);
            move || signal.event()
        });
        consumer.subscribe(topics)?;
        let consumer = Arc::new(consumer);
        Ok(Group {
            committer: Committer::start(Arc::clone(&consumer), Arc::clone(&signal)),
            partitions: Vec::new(),
            turn: 0,
            stray: VecDeque::new(),
            paused: false,
            told: Vec::new(),
            signal,
            grown: Arc::default(),
            committing: false,
            commit_failed: None,
            settings,
            consumer,
        })
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Whether there is something to [commit](Self::commit).
    pub(super) fn has_grown(&self) -> bool {
        self.grown.load(Ordering::Relaxed)
    }

    /// Serves everything but messages, until there is nothing left. Tells of the worst that went wrong,
    /// and only of what was not told since the last message.
    pub(super) fn serve(&mut self) -> Result<(), Error> {
        let mut worst = None;
        loop {
            let consumer = Arc::clone(&self.consumer);
            let polled = consumer.poll(Duration::ZERO);
            let context = consumer.context();
            let mut idle = polled.is_none();
            match polled {
                Some(Ok(message)) => self.take_stray(&message),
                Some(Err(error)) => self.note(self.explained(error), &mut worst),
                None => {}
            }
            while let Some(change) = context.change() {
                let changed = match change {
                    Change::Assign(partitions) => self.assign(&partitions),
                    Change::Revoke(partitions) => self.revoke(&partitions),
                };
                if let Err(error) = changed {
                    self.note(Error::Client(error), &mut worst);
                }
            }
            while let Some(commit) = context.commit() {
                if let Err(error) = self.committed(commit) {
                    self.note(error, &mut worst);
                }
            }
            idle &= !context.was_told();
            if idle {
                return worst.map_or(Ok(()), Err);
            }
        }
    }

    /// librdkafka repeats itself while it tries: each attempt to connect, each commit. Told of every
    /// one, the consumer would take it for ever longer trouble, and ask ever more rarely.
    fn note(&mut self, error: Error, worst: &mut Option<Error>) {
        let code = error.code();
        if error.is_fatal() || !self.told.contains(&code) {
            self.told.push(code);
            if error.is_fatal() || worst.is_none() {
                *worst = Some(error);
            }
        }
    }

    /// The next message of the partitions, which take turns.
    pub(super) fn next(&mut self) -> Option<Result<Delivery, Error>> {
        if let Some(delivery) = self.stray.pop_front() {
            return Some(Ok(delivery));
        }
        let count = self.partitions.len();
        for _ in 0..count {
            let partition = &self.partitions[self.turn % count];
            self.turn = (self.turn + 1) % count;
            if !partition.ready.load(Ordering::Relaxed)
                || partition.assigned.offsets().span() >= self.settings.max_span
            {
                continue;
            }
            // Before the queue is looked at: what comes after that sets it again.
            partition.ready.store(false, Ordering::Release);
            let Some(polled) = partition.queue.poll(Duration::ZERO) else { continue };
            partition.ready.store(true, Ordering::Release);
            match polled {
                Ok(message) => {
                    self.told.clear();
                    let assigned = Arc::clone(&partition.assigned);
                    let message = Message::copied(&assigned.topic, &message);
                    return Some(Ok(Delivery::new(message, assigned)));
                }
                Err(error) => {
                    let mut worst = None;
                    self.note(self.explained(error), &mut worst);
                    if let Some(error) = worst {
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    /// These partitions with these of their offsets, as librdkafka wants to have them.
    fn list(
        &self,
        which: impl Fn(&Assigned) -> bool,
        offset: impl Fn(&mut Offsets) -> Option<i64>,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for Partition { assigned, .. } in &self.partitions {
            if which(assigned)
                && let Some(next) = offset(&mut assigned.offsets())
            {
                // An error is for an offset that cannot be one, or a partition that is not in the list.
                let mut element = list.add_partition(&assigned.topic, assigned.number);
                let _ = element.set_offset(Offset::Offset(next));
            }
        }
        list
    }

    /// Asks the brokers for nothing more. What librdkafka has fetched in advance is thrown away by
    /// that, and fetched again later.
    pub(super) fn pause(&mut self) -> Result<(), Error> {
        self.paused = true;
        self.consumer.pause(&self.all()).map_err(Error::Client)
    }

    pub(super) fn resume(&mut self) -> Result<(), Error> {
        if !self.paused {
            return Ok(());
        }
        self.paused = false;
        self.consumer.resume(&self.all()).map_err(Error::Client)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Leaves the group. Blocks until it has.
    pub(super) fn leave(self) {
        self.consumer.context().close();
        self.committer.end();
        // The last queue, and with it the last reference to the client, is gone at the end of this.
    }

    /// The partitions are this member's. Before they are, each gets its queue: what is fetched would
    /// otherwise go to the common one.
    fn assign(&mut self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        for element in partitions.elements() {
            let (topic, number) = (element.topic(), element.partition());
            let Some(mut queue) = self.consumer.split_partition_queue(topic, number) else {
                // librdkafka makes what is not there, so this is not to be expected. The messages
                // then come by the common queue.
                continue;
            };
            let ready = Arc::new(AtomicBool::new(true));
            queue.set_nonempty_callback({
                let (ready, signal) = (Arc::clone(&ready), Arc::clone(&self.signal));
                move || {
                    ready.store(true, Ordering::Release);
                    signal.wake();
                }
            });
            let assigned = Arc::new(self.assigned(topic, number));
            self.partitions.push(Partition { assigned, ready, queue });
        }
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(partitions),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.assign(partitions),
        }?;
        if self.paused && partitions.count() > 0 {
            self.consumer.pause(partitions)?;
        }
        Ok(())
    }

    /// The partitions are given up. What is settled of them is committed before that: librdkafka does
    /// one after the other, and has the group wait for the first. What is in hand is lost.
    fn revoke(&mut self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let elements = partitions.elements();
        let revoked: HashSet<_> =
            elements.iter().map(|element| (element.topic(), element.partition())).collect();
        let revoked = |assigned: &Assigned| revoked.contains(&(&*assigned.topic, assigned.number));
        let settled = self.list(revoked, Offsets::give_up);
        let committed = match settled.count() {
            0 => Ok(()),
            // It is on its way before the partitions are given up, and what comes of it changes nothing.
            _ => self.consumer.commit(&settled, CommitMode::Async),
        };
        self.partitions.retain(|partition| !revoked(&partition.assigned));
        self.stray.retain(|delivery| !delivery.is_lost());
        if self.paused {
            // librdkafka remembers the pause beyond the assignment, and one that comes back during it is
            // then now and then not fetched from, resumed or not.
            let _ = self.consumer.resume(partitions);
        }
        let given_up = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(partitions),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.unassign(),
        };
        committed.and(given_up)
    }

    fn assigned(&self, topic: &str, number: i32) -> Assigned {
        let Settings { order, ref dead_letters, .. } = self.settings;
        Assigned::new(topic, number, order, Arc::clone(dead_letters), Arc::clone(&self.grown))
    }

    fn take_stray(&mut self, message: &BorrowedMessage<'_>) {
        let (topic, number) = (message.topic(), message.partition());
        let known = self.partitions.iter().map(|partition| &partition.assigned);
        let mut known = known.filter(|one| one.number == number && *one.topic == *topic);
        let Some(assigned) = known.next().cloned() else { return };
        let message = Message::copied(&assigned.topic, message);
        self.stray.push_back(Delivery::new(message, assigned));
    }

    fn all(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for Partition { assigned, .. } in &self.partitions {
            list.add_partition(&assigned.topic, assigned.number);
        }
        list
    }

    fn explained(&self, error: KafkaError) -> Error {
        let mut reason = self.consumer.context().reason();
        if reason.is_empty() {
            reason = error.to_string();
        }
        match error {
            KafkaError::MessageConsumptionFatal(_) => Error::Fatal { error, reason },
            error => Error::Consume { error, reason },
        }
    }
}
