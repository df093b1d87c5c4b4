//! The admin listener, and configurations that make no sense.

use std::process::Command;

use axum::Router;

use super::{
    process::{Ambassador, client, executable, file},
    servers::serve,
};

#[tokio::test]
async fn health_metrics_and_switches() {
    let upstream = serve(Router::new().fallback(|| async { "here" })).await;
    let ambassador = Ambassador::start(&format!(
        "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\nprimary = {{ url = \"http://{upstream}\" }}\n\
         [upstreams.orders]\nlisten = \"127.0.0.1:0\"\nprimary = {{ url = \"http://{upstream}\" }}\n"
    ));
    assert_eq!(ambassador.admin("/healthz").await, "alive\n");
    assert_eq!(ambassador.admin("/readyz").await, "ready\n");
    let url = ambassador.url("stock", "/");
    client().get(&url).send().await.unwrap().text().await.unwrap();

    let command = async |command: &str| {
        let url = ambassador.url("admin", &format!("/policies/stock/{command}"));
        client().post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(command("force-open?seconds=90").await, 200);
    let refusal = client().get(&url).send().await.unwrap();
    assert_eq!(refusal.status(), 503);
    assert_eq!(refusal.headers()["ambassador-refused"], "circuit_open");
    assert_eq!(refusal.headers()["retry-after"], "90");
    // Each upstream has policies of its own.
    let other = client().get(ambassador.url("orders", "/")).send().await.unwrap();
    assert_eq!(other.status(), 200);
    assert_eq!(command("force-close").await, 200);
    assert_eq!(ambassador.policies("stock").await["breaker"]["state"], "forced_closed");
    assert_eq!(command("reset").await, 200);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    for (wrong, status) in [("force-open?for=90", 400), ("explode", 404)] {
        assert_eq!(command(wrong).await, status);
    }

    let view = ambassador.policies("stock").await;
    assert_eq!(view["retry"]["budget"]["tokens"], 10.0);
    assert_eq!(view["breaker"]["history"].as_array().unwrap().len(), 3);
    let metrics = ambassador.admin("/metrics").await;
    for (metric, labels, value) in [
        ("ambassador_requests_total", [r#"upstream="stock""#, r#"outcome="good""#], 2),
        ("ambassador_requests_total", [r#"upstream="stock""#, r#"outcome="refused""#], 1),
        ("ambassador_requests_total", [r#"upstream="orders""#, r#"outcome="good""#], 1),
        ("buttress_breaker_state", [r#"name="stock""#, r#"state="closed""#], 1),
        ("buttress_rejections_total", [r#"name="stock""#, r#"reason="open""#], 1),
    ] {
        let value = format!("}} {value}");
        let is_it = |line: &str| {
            let labelled = labels.iter().all(|label| line.contains(label));
            line.starts_with(metric) && labelled && line.ends_with(&value)
        };
        assert!(metrics.lines().any(is_it), "{metric} {labels:?}{value} not in {metrics}");
    }
}

/// The exit code and what it says, with this configuration and these variables.
fn refused(configuration: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(executable())
        .arg(file("toml", configuration))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_configuration_that_makes_no_sense_is_code_2_and_names_the_field() {
    let stock = "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\nprimary = { url = \"http://a:1\" }\n";
    let with = |more: &str| format!("admin = \"127.0.0.1:0\"\n{stock}{more}");
    for (configuration, told) in [
        (String::from("drain = \"1s\""), "upstreams must have at least one table"),
        (with("moniter = \"responses\""), "unknown field `moniter`"),
        (with("monitor = \"hopes\""), "hopes for key `upstreams.stock.monitor`"),
        (with("policies = { breaker = false }"), "upstreams.stock.policies.breaker must be there"),
        (with("policies = { timeout = { after = \"1s\" } }"), "timeout must be at least the 1.65s"),
        (
            with("policies = { expected_rate = 0.01, replicas = 2 }"),
            "refill_per_second must be at most 0.005",
        ),
        (with("degraded = { status = 99 }"), "upstreams.stock.degraded.status must be"),
        (
            String::from(
                "[upstreams.a]\nlisten = \"127.0.0.1:0\"\nprimary = { url = \"http://a/b\" }",
            ),
            "upstreams.a.primary.url must be an origin",
        ),
        (
            String::from(
                "[upstreams.a]\nlisten = \"127.0.0.1:0\"\n\
                 primary = { url = \"https://a\", ca_file = \"/nowhere\" }",
            ),
            "ca_file /nowhere cannot be read",
        ),
    ] {
        let (code, error) = refused(&configuration, &[]);
        assert_eq!(code, Some(2), "{configuration}: {error}");
        assert!(error.contains(told), "{told} not in {error}");
        assert!(error.starts_with("ambassador: ") && error.lines().count() == 1, "{error}");
    }
    let variable = ("AMBASSADOR__UPSTREAMS__STOCK__POLICIES__BREAKER__FAILURE_RATIO", "1.5");
    let (code, error) = refused(&with(""), &[variable]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("failure_ratio must be above 0 and at most 1, but is 1.5"), "{error}");
}
