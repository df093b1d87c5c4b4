use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use super::{context::Context, signal::Signal};

/// Commits in a thread of its own: librdkafka tells what came of a commit only to one who waits for it.
pub(super) struct Committer {
    offsets: mpsc::Sender<TopicPartitionList>,
    /// `None` if there was no thread to be had.
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start<C: ClientContext + 'static>(
        consumer: Arc<BaseConsumer<Context<C>>>,
        signal: Arc<Signal>,
    ) -> Self {
        let (sender, offsets) = mpsc::channel();
        let commit = move || {
            for offsets in offsets {
                let result = consumer.commit(&offsets, CommitMode::Sync);
                consumer.context().committed((result, offsets));
                signal.event();
            }
        };
        let thread = thread::Builder::new().name("kafka-commit".into()).spawn(commit).ok();
        Committer { offsets: sender, thread }
    }

    /// Begins to commit these. The context is told what comes of it. Gives them back if there is nobody
    /// to do it.
    pub(super) fn commit(&self, offsets: TopicPartitionList) -> Result<(), TopicPartitionList> {
        self.offsets.send(offsets).map_err(|mpsc::SendError(offsets)| offsets)
    }

    /// Returns when the last commit is through, and the client no longer used.
    pub(super) fn end(self) {
        drop(self.offsets);
        if let Some(thread) = self.thread {
            // It does not panic; and if it did, it would not use the client any more.
            let _ = thread.join();
        }
    }
}
