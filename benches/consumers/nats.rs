//! NATS: a pull consumer of a stream on disk, on a server of our own on the same machine.

use std::sync::Arc;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    stream,
};
use buttress::consumer::nats::{Acks, DeadLetters, Message, Source};
use futures::StreamExt;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    contest::{self, CONCURRENCY, Contest, Work},
    nats_server::NatsServer,
};

/// On both sides: what the client's own stream of messages asks for.
const PREFETCH: usize = 200;
const STREAM: &str = "BENCH";
const CONSUMER: &str = "bench";

pub(crate) async fn measure() {
    let server = NatsServer::start().unwrap();
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["bench.>".to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    contest::hold(Confirmed(Nats { context: context.clone() })).await;
    contest::hold(Sent(Nats { context })).await;
}

struct Nats {
    context: jetstream::Context,
}

impl Nats {
    async fn fill(&self, messages: u64) {
        let stream = self.context.get_stream(STREAM).await.unwrap();
        // Not there the first time.
        let _ = stream.delete_consumer(CONSUMER).await;
        stream.purge().await.unwrap();
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_deliver: -1,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await.unwrap();
        let body = bytes::Bytes::from(vec![b'x'; 100]);
        futures::stream::iter(0..messages)
            .map(|_| {
                let published = self.context.publish("bench.messages", body.clone());
                async move { published.await.unwrap().await.unwrap() }
            })
            .buffer_unordered(500)
            .for_each(async |_| {})
            .await;
    }

    async fn source(&self, acks: Acks) -> Source {
        let dead = DeadLetters::Terminate;
        let source = Source::builder(self.context.clone(), STREAM, CONSUMER, dead);
        source.prefetch(PREFETCH).acks(acks).open().await.unwrap()
    }

    async fn bare<F>(&self, work: Work, acknowledge: impl Fn(jetstream::Message) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let consumer: PullConsumer =
            self.context.get_consumer_from_stream(CONSUMER, STREAM).await.unwrap();
        let stream = consumer.stream().max_messages_per_batch(PREFETCH);
        let mut messages = stream.messages().await.unwrap();
        let free = Arc::new(Semaphore::new(CONCURRENCY));
        let mut tasks = JoinSet::new();
        for _ in 0..work.left() {
            let message = messages.next().await.unwrap().unwrap();
            let permit = Arc::clone(&free).acquire_owned().await.unwrap();
            let (work, payload) = (work.clone(), message.payload.clone());
            let acknowledged = acknowledge(message);
            tasks.spawn(async move {
                work.handle(&payload).await;
                acknowledged.await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        tasks.join_all().await;
        self.context.client().flush().await.unwrap();
    }
}

/// Each acknowledgement is confirmed.
struct Confirmed(Nats);

impl Contest for Confirmed {
    type Source = Source;

    const NAME: &'static str = "nats";

    async fn fill(&self, messages: u64) {
        self.0.fill(messages).await;
    }

    async fn source(&self) -> Source {
        self.0.source(Acks::Confirmed).await
    }

    fn body(payload: &Message) -> &[u8] {
        payload.payload()
    }

    async fn bare(&self, work: Work) {
        self.0.bare(work, |message| async move { message.double_ack().await.unwrap() }).await;
    }
}

/// Acknowledgements are sent, and nobody waits for an answer.
struct Sent(Nats);

impl Contest for Sent {
    type Source = Source;

    const NAME: &'static str = "nats, sent";

    async fn fill(&self, messages: u64) {
        self.0.fill(messages).await;
    }

    async fn source(&self) -> Source {
        self.0.source(Acks::Sent).await
    }

    fn body(payload: &Message) -> &[u8] {
        payload.payload()
    }

    async fn bare(&self, work: Work) {
        self.0.bare(work, |message| async move { message.ack().await.unwrap() }).await;
    }
}
