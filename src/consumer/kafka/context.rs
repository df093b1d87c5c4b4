use std::{
    collections::VecDeque,
    error::Error as StdError,
    mem,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use crate::sync::lock;

/// What librdkafka tells a consumer while that polls it. It is noted here, and the source, which
/// polls, goes by it; what concerns the user's own context is passed on to that.
pub(super) struct Context<C> {
    user: C,
    told: Mutex<Told>,
    closing: AtomicBool,
}

#[derive(Default)]
struct Told {
    /// Something was told at all.
    anything: bool,
    changes: VecDeque<Change>,
    /// What the last error says in words.
    reason: String,
    /// Commits that are through.
    commits: VecDeque<Commit>,
}

/// What a commit came to.
pub(super) type Commit = (KafkaResult<()>, TopicPartitionList);

/// What the group has decided about the partitions of this member.
pub(super) enum Change {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

impl<C> Context<C> {
    pub(super) fn new(user: C) -> Self {
        Context { user, told: Mutex::default(), closing: AtomicBool::new(false) }
    }

    /// Whether anything was told since this was last asked. A poll that returns nothing may have
    /// served an event, and then there may be more.
    pub(super) fn was_told(&self) -> bool {
        mem::take(&mut lock(&self.told).anything)
    }

    pub(super) fn change(&self) -> Option<Change> {
        lock(&self.told).changes.pop_front()
    }

    pub(super) fn reason(&self) -> String {
        mem::take(&mut lock(&self.told).reason)
    }

    pub(super) fn commit(&self) -> Option<Commit> {
        lock(&self.told).commits.pop_front()
    }

    pub(super) fn committed(&self, commit: Commit) {
        self.told(|told| told.commits.push_back(commit));
    }

    /// From here on nobody but the client's destructor polls, and partitions are given up at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn told(&self, tell: impl FnOnce(&mut Told)) {
        let mut told = lock(&self.told);
        told.anything = true;
        tell(&mut told);
    }
}

impl<C: ClientContext> ConsumerContext for Context<C> {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            // Nothing comes of an error: the client is at its end.
            let _ = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
                RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
            };
            return;
        }
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let change = if assign { Change::Assign } else { Change::Revoke };
        self.told(|told| told.changes.push_back(change(partitions.clone())));
    }
}

impl<C: ClientContext> ClientContext for Context<C> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = C::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // rdkafka has librdkafka's log come by the same queue.
        self.told(|_| ());
        self.user.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.user.stats(statistics);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.told(|_| ());
        self.user.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.told(|told| reason.clone_into(&mut told.reason));
        self.user.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.told(|_| ());
        self.user.generate_oauth_token(config)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use rdkafka::consumer::DefaultConsumerContext;

    use super::*;

    /// The queue tells of its first event only. If one that rdkafka served by itself were taken for
    /// nothing, what is behind it would wait for the next poll that somebody happens to make.
    #[test]
    fn whatever_was_served_counts() {
        let context = Context::new(DefaultConsumerContext);
        let was_told = |tell: &dyn Fn()| {
            tell();
            (context.was_told(), context.was_told())
        };
        assert_eq!(was_told(&|| ()), (false, false));
        let log = || context.log(RDKafkaLogLevel::Debug, "BROKER", "connecting");
        assert_eq!(was_told(&log), (true, false));
        assert_eq!(was_told(&|| context.stats_raw(b"{}")), (true, false));
        let all_down = KafkaError::Global(rdkafka::error::RDKafkaErrorCode::AllBrokersDown);
        assert_eq!(was_told(&|| context.error(all_down.clone(), "down")), (true, false));
        let nothing = TopicPartitionList::new();
        assert_eq!(was_told(&|| context.committed((Ok(()), nothing.clone()))), (true, false));
    }
}
