//! The admin listener: health, metrics, and what every policy is doing.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use buttress::breaker::{CircuitBreaker, Transition};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::proxy::Proxy;

pub(crate) struct Admin {
    pub(crate) proxies: Vec<&'static Proxy>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) stopping: AtomicBool,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        match (request.method(), path) {
            // Alive as long as it answers at all.
            (&Method::GET, "/healthz") => text(StatusCode::OK, "alive\n"),
            // Open circuits are no reason to send nobody here: it still answers for them.
            (&Method::GET, "/readyz") if self.stopping.load(Ordering::Relaxed) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
            }
            (&Method::GET, "/readyz") => text(StatusCode::OK, "ready\n"),
            (&Method::GET, "/metrics") => {
                let mut response = text(StatusCode::OK, self.metrics.render());
                let version = HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(header::CONTENT_TYPE, version);
                response
            }
            (&Method::GET, "/policies") => {
                let all = self.proxies.iter().map(|proxy| (proxy.name.clone(), policies(proxy)));
                json_text(&Value::Object(all.collect()))
            }
            (&Method::POST, path) => self.command(path, request.uri().query()),
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    /// `/policies/{name}/{what}`, `what` being `force-open`, `force-close` or `reset`. The first two
    /// take `?seconds=N`, after which the breaker decides by itself again.
    fn command(&self, path: &str, query: Option<&str>) -> Answer {
        let target = path.strip_prefix("/policies/").and_then(|path| path.rsplit_once('/'));
        let found = target.and_then(|(name, what)| {
            let proxy = self.proxies.iter().find(|proxy| proxy.name == name)?;
            Some((*proxy, what))
        });
        let Some((proxy, what)) = found else {
            return text(StatusCode::NOT_FOUND, "there is no such upstream\n");
        };
        let expiry = match query.map(|query| query.strip_prefix("seconds=").map(str::parse)) {
            None => None,
            Some(Some(Ok(seconds))) => Some(Duration::from_secs(seconds)),
            Some(_) => return text(StatusCode::BAD_REQUEST, "only ?seconds=N is understood\n"),
        };
        let breaker = proxy.upstream.breaker;
        match what {
            "force-open" => breaker.force_open("by the admin listener", expiry),
            "force-close" => breaker.force_closed("by the admin listener", expiry),
            "reset" => breaker.reset(),
            _ => {
                let known = "there are force-open, force-close and reset\n";
                return text(StatusCode::NOT_FOUND, known);
            }
        }
        json_text(&breaker_view(breaker))
    }
}

fn policies(proxy: &Proxy) -> Value {
    let upstream = &proxy.upstream;
    let retry = upstream.standard.retry().map(|retry| {
        let counts = retry.counts();
        json!({
            "max_attempts": retry.config().max_attempts,
            "retried": counts.retried,
            "exhausted": counts.exhausted,
            "budget_denied": counts.budget_denied,
            "uncloneable": counts.uncloneable,
            "out_of_time": counts.out_of_time,
            "not_idempotent": counts.not_idempotent,
            "retried_above": counts.retried_above,
            "budget": retry.budget().map(|budget| json!({
                "tokens": budget.tokens(),
                "cap": budget.config().cap,
            })),
        })
    });
    let fallbacks = [("backup", upstream.backup), ("static", upstream.static_answer())];
    let fallbacks = fallbacks.into_iter().filter_map(|(kind, fallback)| {
        let counts = fallback?.counts();
        let view = json!({
            "degraded": counts.degraded,
            "failed": counts.failed,
            "uncloneable": counts.uncloneable,
            "not_idempotent": counts.not_idempotent,
        });
        Some((kind.to_owned(), view))
    });
    let seconds = |timeout: buttress::Timeout| timeout.duration().as_secs_f64();
    json!({
        "in_flight": proxy.outcomes.in_flight(),
        "breaker": breaker_view(upstream.breaker),
        "retry": retry,
        "fallback": Value::Object(fallbacks.collect()),
        "timeout_seconds": upstream.standard.timeout().map(seconds),
        "attempt_timeout_seconds": upstream.standard.attempt_timeout().map(seconds),
    })
}

fn breaker_view(breaker: CircuitBreaker) -> Value {
    let snapshot = breaker.snapshot();
    let wait = snapshot.ready_at.map(|at| at.saturating_duration_since(Instant::now()));
    json!({
        "state": snapshot.state.as_str(),
        "since_seconds": snapshot.since.elapsed().as_secs_f64(),
        "probe_in_seconds": wait.map(|wait| wait.as_secs_f64()),
        "calls": snapshot.calls,
        "failures": snapshot.failures,
        "slow": snapshot.slow,
        "failure_ratio": snapshot.failure_ratio(),
        "consecutive_failures": snapshot.consecutive_failures,
        "probes": snapshot.probes.map(|probes| json!({
            "outstanding": probes.outstanding,
            "succeeded": probes.succeeded,
            "failed": probes.failed,
        })),
        "reason": snapshot.reason.map(|reason| reason.to_string()),
        "shadow": snapshot.shadow,
        "outage": snapshot.outage.as_ref().map(transition_view),
        "history": snapshot.transitions.iter().map(transition_view).collect::<Vec<_>>(),
    })
}

fn transition_view(transition: &Transition) -> Value {
    json!({
        "seconds_ago": transition.at.elapsed().as_secs_f64(),
        "from": transition.from.as_str(),
        "to": transition.to.as_str(),
        "what": transition.to_string(),
    })
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

fn json_text(value: &Value) -> Answer {
    let mut response = text(StatusCode::OK, format!("{value:#}\n"));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
