//! What is committed, and what comes of it.

use std::{sync::atomic::Ordering, time::Duration};

use rdkafka::{
    ClientContext,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio::time::Instant;

use super::{Group, Partition};
use crate::consumer::kafka::{Error, context::Commit, offsets::Offsets};

/// How long the last commit may take. A consumer gives its source five seconds to close, and leaving
/// the group takes some of them.
const FOR_THE_LAST_COMMIT: Duration = Duration::from_secs(4);

/// How long it waits before it is tried again, while the group changes.
const BETWEEN_COMMITS: Duration = Duration::from_millis(100);

const MOMENT: Duration = Duration::from_millis(5);

impl<C: ClientContext + 'static> Group<C> {
    /// Commits what is settled of each partition, unless an earlier commit is on its way.
    ///
    /// librdkafka would commit by itself, but it keeps commits back while the coordinator of the group
    /// is away, and sends them when it is there again: after newer ones, perhaps, so that the offset
    /// goes back. Of one at a time, none can be older.
    pub(in crate::consumer::kafka) fn commit(&mut self) -> Result<(), Error> {
        if self.committing {
            return Ok(());
        }
        self.grown.store(false, Ordering::Relaxed);
        let settled = self.list(|_| true, Offsets::take);
        if settled.count() == 0 {
            return Ok(());
        }
        self.committing = true;
        match self.committer.commit(settled) {
            Ok(()) => Ok(()),
            Err(settled) => self.committed((Err(KafkaError::Canceled), settled)),
        }
    }

    /// The commit that was on its way has come to this. What failed is committed with the next.
    pub(super) fn committed(&mut self, (result, offsets): Commit) -> Result<(), Error> {
        self.committing = false;
        self.commit_failed = result.as_ref().err().cloned();
        for Partition { assigned, .. } in &self.partitions {
            if result.is_ok() {
                assigned.offsets().committed();
            } else if assigned.offsets().not_committed() {
                self.grown.store(true, Ordering::Relaxed);
            }
        }
        result.map_err(|error| Error::commit(error, &offsets))
    }

    /// The last commit, which is through when the broker has confirmed it, or when its time is over.
    /// Blocks for that long.
    pub(in crate::consumer::kafka) fn commit_last(&mut self) -> Result<(), Error> {
        let until = Instant::now() + FOR_THE_LAST_COMMIT;
        // What is on its way comes first. Whether it arrives does not matter: what it was about is
        // committed again if not.
        let _ = self.wait_for_commit(until);
        loop {
            self.commit()?;
            let Err(error) = self.wait_for_commit(until) else { return Ok(()) };
            let passing = matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::RebalanceInProgress
                        | RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::StaleMemberEpoch
                )
            );
            if !passing || Instant::now() >= until {
                let left = self.list(|_| true, |offsets| offsets.uncommitted());
                return Err(Error::commit(error, &left));
            }
            self.wait(BETWEEN_COMMITS);
        }
    }

    /// Blocks until the commit that is on its way, if there is one, has come to something.
    fn wait_for_commit(&mut self, until: Instant) -> KafkaResult<()> {
        self.commit_failed = None;
        while self.committing {
            if Instant::now() >= until {
                return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut));
            }
            self.wait(MOMENT);
        }
        self.commit_failed.take().map_or(Ok(()), Err)
    }

    /// Blocks until something has happened, or for so long.
    fn wait(&mut self, time: Duration) {
        // A message that comes now is not for us any more.
        let _ = self.consumer.poll(time);
        // Of what goes wrong, the commit tells.
        let _ = self.serve();
    }
}
