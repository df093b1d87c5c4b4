//! Logs as JSON on standard output, metrics for Prometheus.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::LevelFilter;

/// In seconds. A sidecar adds a fraction of a millisecond, timeouts are of seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often what was measured goes from where it was written into the buckets. Until then it takes
/// eight bytes a measurement.
const UPKEEP: Duration = Duration::from_secs(1);

/// One line for each event, among them every transition of a breaker: buttress tells of those by
/// itself (feature `tracing`).
pub(crate) fn log(level: LevelFilter) {
    tracing_subscriber::fmt().json().with_max_level(level).init();
}

/// Installs the recorder. Before any policy has been called: each keeps to the first that it meets.
pub(crate) fn metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    describe_counter!(
        "ambassador_requests_total",
        "Requests by what their callers got: good, degraded, refused, truncated; or gone."
    );
    describe_histogram!(
        "ambassador_request_duration_seconds",
        Unit::Seconds,
        "From the head of a request to the end of its answer."
    );
    Ok(handle)
}

/// Keeps the memory of the recorder bounded where nobody asks for its metrics.
pub(crate) async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
