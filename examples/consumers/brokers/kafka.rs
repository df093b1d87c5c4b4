//! librdkafka's mock cluster: brokers of Kafka within this process, which speak its protocol over real
//! connections on ports of the loopback interface. Other processes can be connected to them too.

use std::time::Duration;

use rdkafka::{
    error::KafkaResult,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

/// A cluster of one broker. It is gone, with all it has, when this is dropped.
pub(crate) struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
}

/// All brokers of the cluster.
const ALL: i32 = -1;

/// Its broker, where one must be named.
const ONE: i32 = 1;

impl Cluster {
    /// Starts one with these topics, each with so many partitions.
    pub(crate) fn start(topics: &[(&str, i32)]) -> KafkaResult<Self> {
        let mock = MockCluster::new(1)?;
        let cluster = Cluster { mock };
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions)?;
        }
        Ok(cluster)
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) -> KafkaResult<()> {
        self.mock.create_topic(topic, partitions, 1)
    }

    /// What `bootstrap.servers` is to be.
    pub(crate) fn address(&self) -> String {
        self.mock.bootstrap_servers()
    }

    /// All connections break, and no new ones come about.
    pub(crate) fn down(&self) -> KafkaResult<()> {
        self.mock.broker_down(ALL)
    }

    /// There again, at the same address, with all it had.
    pub(crate) fn up(&self) -> KafkaResult<()> {
        self.mock.broker_up(ALL)
    }

    /// How long all answers take from here on.
    pub(crate) fn answers_take(&self, time: Duration) {
        self.mock.broker_round_trip_time(ONE, time).expect("the only broker");
    }

    /// The next requests of this kind fail so, one after the other.
    pub(crate) fn fail(&self, requests: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        self.mock.request_errors(requests, errors);
    }
}
