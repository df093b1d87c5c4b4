//! No broker at all: a queue in memory, where the driver's own cost is all there is.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress::consumer::{Delivery, Settle, SettleError, Source};
use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::contest::{CONCURRENCY, Contest, Work};

const PREFETCH: usize = 256;

pub(crate) struct InMemory {
    queue: Arc<Mutex<VecDeque<Bytes>>>,
}

impl InMemory {
    pub(crate) fn new() -> Self {
        InMemory { queue: Arc::default() }
    }
}

impl Contest for InMemory {
    type Source = Queue;

    const NAME: &'static str = "memory";
    const LIMITED: bool = false;

    async fn fill(&self, messages: u64) {
        let body = Bytes::from(vec![b'x'; 100]);
        self.queue.lock().unwrap().extend((0..messages).map(|_| body.clone()));
    }

    async fn source(&self) -> Queue {
        Queue(Arc::clone(&self.queue))
    }

    fn body(payload: &Bytes) -> &[u8] {
        payload
    }

    async fn bare(&self, work: Work) {
        let free = Arc::new(Semaphore::new(CONCURRENCY));
        let mut tasks = JoinSet::new();
        loop {
            let Some(body) = self.queue.lock().unwrap().pop_front() else { break };
            let permit = Arc::clone(&free).acquire_owned().await.unwrap();
            let work = work.clone();
            tasks.spawn(async move {
                work.handle(&body).await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        tasks.join_all().await;
    }
}

/// A source that always has something until it is empty.
pub(crate) struct Queue(Arc<Mutex<VecDeque<Bytes>>>);

impl Source for Queue {
    type Delivery = Taken;
    type Error = Infallible;

    fn prefetch(&self) -> usize {
        PREFETCH
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Taken, Infallible>>> {
        if room == 0 {
            return Poll::Pending;
        }
        match self.0.lock().unwrap().pop_front() {
            Some(body) => Poll::Ready(Some(Ok(Taken(body)))),
            // It is never filled while somebody reads.
            None => Poll::Pending,
        }
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    async fn close(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

pub(crate) struct Taken(Bytes);

impl Delivery for Taken {
    type Payload = Bytes;

    fn payload(&self) -> Bytes {
        self.0.clone()
    }

    fn attempt(&self) -> Option<u32> {
        Some(1)
    }

    async fn settle(&mut self, _: &Settle) -> Result<(), SettleError> {
        Ok(())
    }
}
