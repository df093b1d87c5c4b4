//! What is refused from the start.

use async_nats::jetstream::consumer::{AckPolicy, pull, push};
use buttress::consumer::nats::{DeadLetters, Error, Source};
use std::time::Duration;

use crate::broker::{CONSUMER, Nats, STREAM, usual};

async fn refusal(nats: &Nats, consumer: &str, dead_letters: DeadLetters) -> String {
    let source = Source::builder(nats.context.clone(), STREAM, consumer, dead_letters);
    source.open().await.unwrap_err().to_string()
}

fn named(name: &str) -> pull::Config {
    pull::Config { durable_name: Some(name.to_owned()), ..usual() }
}

#[tokio::test]
async fn consumers_that_would_lose_messages_are_refused() {
    let nats = Nats::start().await;
    nats.make_consumer(pull::Config { max_deliver: 5, ..named("limited") }).await;
    nats.make_consumer(pull::Config { ack_policy: AckPolicy::All, ..named("all") }).await;
    nats.make_consumer(pull::Config { max_ack_pending: 10, ..named("narrow") }).await;
    let fleeting =
        pull::Config { durable_name: None, name: Some("fleeting".to_owned()), ..usual() };
    nats.make_consumer(fleeting).await;
    let config = push::Config {
        durable_name: Some("push".to_owned()),
        deliver_subject: "pushed".to_owned(),
        ..push::Config::default()
    };
    nats.context.create_consumer_on_stream(config, STREAM).await.unwrap();

    for (consumer, said) in [
        ("limited", "max_deliver must be -1, for no limit, but is 5"),
        ("all", "ack_policy must be Explicit, but is All"),
        ("narrow", "max_ack_pending must be at least the prefetch, which is 64, but is 10"),
        ("fleeting", "must be durable"),
        ("push", "pull consumer cannot have delivery subject"),
        ("nobody", "consumer not found"),
    ] {
        let refusal = refusal(&nats, consumer, DeadLetters::Terminate).await;
        assert!(refusal.contains(said), "{refusal}");
        assert!(
            refusal.contains(&format!("consumer {consumer:?} of stream \"ORDERS\"")),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn dead_letters_must_have_a_place_and_not_come_back() {
    let nats = Nats::start().await;
    let nowhere = refusal(&nats, CONSUMER, DeadLetters::to("nowhere")).await;
    assert!(nowhere.contains("no stream stores its dead letters, \"nowhere\""), "{nowhere}");
    let round = refusal(&nats, CONSUMER, DeadLetters::to("orders.dead")).await;
    assert!(round.contains("would be given its own dead letters, \"orders.dead\""), "{round}");

    // The stream of a work queue drops what is acknowledged, and its copy would be empty.
    nats.make_consumer(pull::Config { headers_only: true, ..named("bodiless") }).await;
    let empty = refusal(&nats, "bodiless", DeadLetters::to("dead.orders")).await;
    assert!(empty.contains("its headers_only keeps the payload from its dead letters"), "{empty}");
    let terminate = DeadLetters::Terminate;
    Source::builder(nats.context.clone(), STREAM, "bodiless", terminate).open().await.unwrap();

    let filtered = pull::Config { filter_subject: "orders.new.*".to_owned(), ..named("filtered") };
    nats.make_consumer(filtered).await;
    let round = refusal(&nats, "filtered", DeadLetters::to("orders.new.dead")).await;
    assert!(round.contains("would be given its own dead letters"), "{round}");
    let dead = DeadLetters::to("orders.dead");
    Source::builder(nats.context.clone(), STREAM, "filtered", dead).open().await.unwrap();
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let nats = Nats::start().await;
    let error = nats.builder().prefetch(0).open().await.unwrap_err();
    assert!(matches!(error, Error::Config(_)));
    assert_eq!(error.to_string(), "nats source: prefetch must be at least 1, but is 0");
    let error = nats.builder().confirm_within(Duration::ZERO).open().await.unwrap_err();
    assert_eq!(error.to_string(), "nats source: confirm_within must be above zero, but is 0ns");
    for subject in ["", "dead letters", "dead.", "dead.*", ">"] {
        let refusal = refusal(&nats, CONSUMER, DeadLetters::to(subject)).await;
        let expected = "nats source: dead_letters must be a subject, without wildcards, but is";
        assert_eq!(refusal, format!("{expected} {subject:?}"));
    }
}
