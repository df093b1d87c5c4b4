//! Every rule of the configuration with its message, and the defaults.

use std::time::Duration;

use buttress::{
    Backoff, Jitter,
    consumer::{Consumer, ConsumerBuilder, ConsumerConfig},
};

use crate::rig::{MS, SECOND};

fn refused(set: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> String {
    set(Consumer::builder("x")).build().unwrap_err().to_string()
}

#[test]
fn every_rule_has_its_message() {
    assert_eq!(
        refused(|x| x.concurrency(0)),
        r#"consumer "x": concurrency must be at least 1, or nothing would be handled, but is 0"#
    );
    assert_eq!(
        refused(|x| x.max_deliveries(0)),
        r#"consumer "x": max_deliveries must be at least 1, or everything would be a dead letter, but is 0"#
    );
    let never = || Backoff::constant(Duration::ZERO);
    let rule = "must be above zero, or it would be tried again without a pause, but is 0ns";
    assert_eq!(refused(|x| x.probe_after(never())), format!(r#"consumer "x": probe_after {rule}"#));
    assert_eq!(
        refused(|x| x.reconnect_after(never())),
        format!(r#"consumer "x": reconnect_after {rule}"#)
    );
    let shrinking = || Backoff::exponential(SECOND).max(MS);
    for (field, message) in [
        ("retry_after", refused(|x| x.retry_after(shrinking()))),
        ("probe_after", refused(|x| x.probe_after(shrinking()))),
        ("reconnect_after", refused(|x| x.reconnect_after(shrinking()))),
    ] {
        assert!(message.starts_with(&format!(r#"consumer "x": {field}"#)), "{message}");
    }
}

#[test]
fn what_is_within_the_rules_is_taken() {
    let builder = Consumer::builder("x").concurrency(1).max_deliveries(1);
    // A retry at once is a choice; it is bounded by the deliveries.
    let consumer = builder.retry_after(Backoff::constant(Duration::ZERO)).ordered().build();
    let consumer = consumer.unwrap();
    assert_eq!(consumer.name(), "x");
    assert_eq!((consumer.config().concurrency, consumer.config().ordered), (1, true));
}

#[test]
fn the_defaults_are_what_their_documentation_says() {
    let config = ConsumerConfig::default();
    assert_eq!((config.concurrency, config.ordered, config.max_deliveries), (16, false, 5));
    assert_eq!(config.retry_after, Backoff::exponential(SECOND).max(30 * SECOND));
    let probe = Backoff::exponential(100 * MS).max(5 * SECOND).jitter(Jitter::Equal);
    assert_eq!(config.probe_after, probe);
    let reconnect = Backoff::exponential(100 * MS).max(10 * SECOND).jitter(Jitter::Equal);
    assert_eq!(config.reconnect_after, reconnect);
    assert!(config.validate().is_ok());
    assert_eq!(Consumer::builder("x").build().unwrap().config(), &config);
    let made = Consumer::from_config("x", config).concurrency(3).build().unwrap();
    assert_eq!(made.config().concurrency, 3);
}

#[cfg(feature = "serde")]
#[test]
fn it_is_read_from_toml() {
    let config: ConsumerConfig = toml::from_str(
        r#"
        concurrency = 8
        max_deliveries = 10
        ordered = true
        retry_after = { base = "2s", max = "5m" }
        "#,
    )
    .unwrap();
    assert_eq!((config.concurrency, config.max_deliveries, config.ordered), (8, 10, true));
    assert_eq!(config.retry_after, Backoff::exponential(2 * SECOND).max(300 * SECOND));
    assert_eq!(config.probe_after, ConsumerConfig::default().probe_after);
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<ConsumerConfig>(&written).unwrap(), config);
    assert_eq!(toml::from_str::<ConsumerConfig>("").unwrap(), ConsumerConfig::default());
    let error = toml::from_str::<ConsumerConfig>("concurency = 8").unwrap_err();
    assert!(error.message().contains("unknown field"), "{error}");
}
