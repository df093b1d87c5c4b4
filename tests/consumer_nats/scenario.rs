//! What every broker's tests put a consumer through.

use std::time::Duration;

use buttress::consumer::nats::{Message, Source};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Runtime;

use crate::{
    broker::Nats,
    consumer_support::{
        child::{self, Reachable},
        message,
        scenario::{self, Broker, Order},
    },
};

impl Broker for Nats {
    type Source = Source;

    const PREFETCH: usize = 50;

    /// The server writes down what a consumer has acknowledged ten times a second at most; but after
    /// seven of some ninety kills it came back as if next to none of it had been.
    const FORGETS: Duration = Duration::from_secs(60);

    async fn publish(&self, messages: &[message::Message]) {
        futures::stream::iter(messages)
            .map(|message| async move {
                let subject = format!("orders.{}", message.key);
                self.context.publish(subject, message.body.clone()).await
            })
            // In their order, and with many acknowledgements under way at a time.
            .buffered(1)
            .map_ok(IntoFuture::into_future)
            .try_buffered(500)
            .try_for_each(async |_| Ok(()))
            .await
            .unwrap();
    }

    async fn source(&self, _ordered: bool) -> Source {
        self.builder().prefetch(Self::PREFETCH).open().await.unwrap()
    }

    fn body(payload: &Message) -> Bytes {
        payload.payload().clone()
    }

    async fn left(&self) -> usize {
        Nats::left(self).await
    }

    async fn dead_letters(&self) -> Vec<(Bytes, String)> {
        let letters = Nats::dead_letters(self).await;
        let reason = |headers: &async_nats::HeaderMap| headers.get("Buttress-Reason").cloned();
        letters
            .into_iter()
            .map(|(body, headers)| (body, reason(&headers).unwrap().to_string()))
            .collect()
    }

    async fn kill(&self) {
        Nats::kill(self);
    }

    async fn restart(&self) {
        Nats::restart(self);
    }
}

impl Reachable for Nats {
    fn address(&self) -> String {
        self.url().to_owned()
    }

    fn at(address: &str) -> Self {
        // The client works in the runtime that it was connected in, as long as there is this process.
        let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new().unwrap()));
        runtime.block_on(Nats::connected(address, None))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_every_kind() {
    let report = scenario::outages(&Nats::start().await, Order::Any).await;
    println!("outages: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_every_kind_in_order() {
    let report = scenario::outages(&Nats::start().await, Order::PerKey).await;
    println!("in order: {report:?}");
    assert_eq!(report.most_deliveries, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_and_restarted() {
    scenario::crash(&Nats::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shut_down_under_load() {
    scenario::shutdown(&Nats::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shut_down_past_the_deadline() {
    scenario::hard_shutdown(&Nats::start().await).await;
}

#[test]
fn quiet_while_open() {
    child::alone("scenario::quiet_while_open", async || {
        scenario::open_circuit(&Nats::start().await, &[]).await;
    });
}

#[test]
fn consumer_killed() {
    child::killed("scenario::consumer_killed", async || Nats::start().await);
}
