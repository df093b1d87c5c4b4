//! Configurations that cannot work, and what is said about them.

use buttress::consumer::kafka::{DeadLetters, Error, Source as KafkaSource, SourceBuilder};
use rdkafka::{ClientConfig, producer::FutureProducer};

fn config(settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", "127.0.0.1:1").set("log_level", "0");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

fn builder(settings: &[(&str, &str)]) -> SourceBuilder {
    KafkaSource::builder(&config(settings), ["orders"], DeadLetters::dropped())
}

fn refused(builder: SourceBuilder) -> String {
    match builder.build().unwrap_err() {
        Error::Config(error) => error.to_string(),
        error => panic!("{error}"),
    }
}

#[test]
fn a_configuration_that_would_lose_messages_is_refused() {
    let group = ("group.id", "workers");
    for (settings, said) in [
        (
            &[][..],
            r#"kafka source: group.id must be set, because offsets are kept by group, but is """#,
        ),
        (
            &[group, ("enable.auto.offset.store", "true")],
            "kafka source: enable.auto.offset.store must be false, because only offsets of settled \
             deliveries may be stored, but is \"true\"",
        ),
        (
            &[group, ("enable.auto.commit", "true")],
            "kafka source: enable.auto.commit must be false, because the source commits, and in order, \
             but is \"true\"",
        ),
        (
            &[group, ("auto.commit.interval.ms", "0")],
            "kafka source: auto.commit.interval.ms must be at least 1, because offsets are committed so \
             often, but is 0",
        ),
        (
            &[group, ("enable.partition.eof", "true")],
            "kafka source: enable.partition.eof must be false, because the end of a partition is no \
             error, but is \"true\"",
        ),
    ] {
        assert_eq!(refused(builder(settings)), said);
    }
    builder(&[group, ("enable.auto.offset.store", "false")]).build().unwrap();
}

#[test]
fn settings_of_our_own_are_checked() {
    let group = config(&[("group.id", "workers")]);
    let of =
        |topics: &[&str], letters| KafkaSource::builder(&group, topics.iter().copied(), letters);
    let ours = || of(&["orders"], DeadLetters::dropped());
    assert_eq!(refused(ours().prefetch(0)), "kafka source: prefetch must be at least 1, but is 0");
    assert_eq!(refused(ours().max_span(0)), "kafka source: max_span must be at least 1, but is 0");
    for topics in [&[][..], &[""], &["or\0ders"]] {
        let said = refused(of(topics, DeadLetters::dropped()));
        assert!(said.starts_with("kafka source: topics must name at least one topic"), "{said}");
    }
    let producer: FutureProducer = group.create().unwrap();
    for topic in ["orders", ""] {
        let said = refused(of(&["orders"], DeadLetters::to_topic(topic, producer.clone())));
        assert!(said.starts_with("kafka source: dead_letters must name a topic"), "{said}");
    }
}

#[test]
fn what_librdkafka_does_not_know_is_its_to_say() {
    let error = builder(&[("group.id", "workers"), ("no.such.thing", "1")]).build().unwrap_err();
    assert!(matches!(error, Error::Client(_)));
    assert!(error.to_string().contains("no.such.thing"), "{error}");
}
