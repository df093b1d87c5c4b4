//! A server with a stream of orders, one of dead letters, and a durable consumer of the orders.

use std::{
    future::poll_fn,
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        consumer::{AckPolicy, Info, PullConsumer, pull},
        stream,
    },
};
use buttress::consumer::{
    Delivery as _, Settle, Source as _,
    nats::{DeadLetters, Delivery, Error, Source, SourceBuilder},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::nats_server::NatsServer;

pub(crate) const STREAM: &str = "ORDERS";
pub(crate) const CONSUMER: &str = "worker";
pub(crate) const DEAD: &str = "dead.orders";
pub(crate) const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Nats {
    /// `None` where it is somebody else's.
    server: Option<Mutex<NatsServer>>,
    url: String,
    pub(crate) context: jetstream::Context,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        Nats::with_ack_wait(Duration::from_secs(2)).await
    }

    pub(crate) async fn with_ack_wait(wait: Duration) -> Self {
        let server = NatsServer::start().unwrap();
        let nats = Nats::connected(&server.url(), Some(Mutex::new(server))).await;
        nats.make_stream(STREAM, "orders.>").await;
        nats.make_stream("DEAD", "dead.>").await;
        nats.make_consumer(pull::Config { ack_wait: wait, ..usual() }).await;
        nats
    }

    /// The one that runs there already.
    pub(crate) async fn connected(url: &str, server: Option<Mutex<NatsServer>>) -> Self {
        let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| 50 * MS);
        let client = options.connect(url).await.unwrap();
        Nats { server, url: url.to_owned(), context: jetstream::new(client) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn make_stream(&self, name: &str, subjects: &str) {
        self.context.create_stream(stream_of(name, subjects)).await.unwrap();
    }

    pub(crate) async fn make_consumer(&self, config: pull::Config) {
        let made: PullConsumer =
            self.context.create_consumer_on_stream(config, STREAM).await.unwrap();
        drop(made);
    }

    pub(crate) async fn delete_consumer(&self) {
        self.context.delete_consumer_from_stream(CONSUMER, STREAM).await.unwrap();
    }

    pub(crate) fn builder(&self) -> SourceBuilder {
        Source::builder(self.context.clone(), STREAM, CONSUMER, DeadLetters::to(DEAD))
            .confirm_within(500 * MS)
    }

    pub(crate) async fn source(&self, prefetch: usize) -> Source {
        self.builder().prefetch(prefetch).open().await.unwrap()
    }

    pub(crate) async fn publish(&self, bodies: impl IntoIterator<Item = &'static str>) {
        for body in bodies {
            self.context.publish("orders.a", body.into()).await.unwrap().await.unwrap();
        }
    }

    /// Nothing but headers, which no client would write.
    pub(crate) async fn publish_raw(&self, headers: &str) {
        let address = self.url.strip_prefix("nats://").unwrap();
        let mut connection = TcpStream::connect(address).await.unwrap();
        let connect = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
        let bytes = headers.len();
        let publish = format!("HPUB orders.a {bytes} {bytes}\r\n{headers}\r\n");
        let said = format!("{connect}{publish}PING\r\n");
        connection.write_all(said.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(connection).lines();
        while lines.next_line().await.unwrap().expect("the server closed it") != "PONG" {}
    }

    pub(crate) async fn info(&self) -> Info {
        // A server that has just come back does not answer at once.
        for _ in 0..100 {
            let consumer = self.context.get_consumer_from_stream(CONSUMER, STREAM).await;
            if let Ok(consumer) = consumer as Result<PullConsumer, _> {
                return consumer.cached_info().clone();
            }
            sleep(50 * MS).await;
        }
        panic!("the server does not answer");
    }

    /// How many are neither acknowledged nor put aside.
    pub(crate) async fn left(&self) -> usize {
        let info = self.info().await;
        usize::try_from(info.num_pending).unwrap() + info.num_ack_pending
    }

    /// Bodies and headers.
    pub(crate) async fn dead_letters(&self) -> Vec<(bytes::Bytes, HeaderMap)> {
        let dead = self.context.get_stream("DEAD").await.unwrap();
        let state = dead.cached_info().state.clone();
        let mut letters = Vec::new();
        if state.messages > 0 {
            for sequence in state.first_sequence..=state.last_sequence {
                let letter = dead.get_raw_message(sequence).await.unwrap();
                letters.push((letter.payload, letter.headers));
            }
        }
        letters
    }

    /// Breaks the connection, and waits for the next.
    pub(crate) async fn reconnect(&self) {
        let client = self.context.client();
        let statistics = client.statistics();
        let connects = || statistics.connects.load(Ordering::Relaxed);
        let before = connects();
        client.force_reconnect().await.unwrap();
        eventually("it has connected", async || connects() > before).await;
    }

    pub(crate) fn kill(&self) {
        self.server.as_ref().expect("somebody else's").lock().unwrap().kill();
    }

    /// Stops its process, or lets it go on: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.server.as_ref().expect("somebody else's").lock().unwrap().id().unwrap();
        crate::consumer_support::signal::signal(&id.to_string(), name);
    }

    pub(crate) fn restart(&self) {
        self.server.as_ref().expect("somebody else's").lock().unwrap().restart().unwrap();
    }
}

pub(crate) fn stream_of(name: &str, subjects: &str) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        ..stream::Config::default()
    }
}

pub(crate) fn usual() -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        ..pull::Config::default()
    }
}

/// What the source says next, with so much room.
pub(crate) async fn next(source: &mut Source, room: usize) -> Result<Delivery, Error> {
    let next = poll_fn(|cx| source.poll_next(cx, room));
    timeout(PATIENCE, next).await.expect("nothing came").expect("the source ended")
}

/// The next delivery, whatever goes wrong before.
pub(crate) async fn next_delivery(source: &mut Source, room: usize) -> Delivery {
    for _ in 0..100 {
        match next(source, room).await {
            Ok(delivery) => return delivery,
            // As the driver does it, a little shorter.
            Err(_) => sleep(50 * MS).await,
        }
    }
    panic!("nothing but errors");
}

/// Polls it for so long, and nothing may come.
pub(crate) async fn nothing(source: &mut Source, room: usize, time: Duration) {
    let next = poll_fn(|cx| source.poll_next(cx, room));
    let came = timeout(time, next).await;
    assert!(came.is_err(), "{:?}", came.unwrap());
}

pub(crate) async fn ack(mut delivery: Delivery) {
    delivery.settle(&Settle::Ack).await.unwrap();
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().payload().to_vec()).unwrap()
}

/// Waits until that holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(10 * MS).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
