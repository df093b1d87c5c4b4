//! Statuses and hints, as clients get them from a server.

use std::time::Duration;

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use buttress::{
    Classify, Verdict, VerdictKind,
    http::{Connections, Responses},
};

use super::{
    connections::{hyper, reqwest},
    servers::serve,
};

type Outcome = Result<reqwest::Response, reqwest::Error>;

fn statuses() -> Router {
    Router::new().route(
        "/{status}",
        get(|Path(status): Path<u16>| async move { StatusCode::from_u16(status).unwrap() }),
    )
}

#[tokio::test]
async fn every_status_means_what_the_table_says() {
    let address = serve(statuses()).await;
    let client = reqwest().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for status in 200..=599 {
        let outcome: Outcome = client.get(format!("http://{address}/{status}")).send().await;
        assert_eq!(outcome.as_ref().unwrap().status().as_u16(), status);
        let expected = match status {
            200..=399 => Verdict::Success,
            408 => Verdict::Transient,
            429 => Verdict::Throttled { retry_after: None },
            400..=499 | 501 | 505 => Verdict::Permanent,
            _ => Verdict::Transient,
        };
        assert_eq!(Responses::new().classify(outcome.as_ref()), expected, "{status}");
        assert_eq!(Connections.classify(outcome.as_ref()), Verdict::Success, "{status}");
    }
}

#[tokio::test]
async fn a_response_of_hyper_is_read_alike() {
    let address = serve(statuses()).await;
    for (status, expected) in [
        (200, Verdict::Success),
        (404, Verdict::Permanent),
        (429, Verdict::Throttled { retry_after: None }),
        (503, Verdict::Transient),
    ] {
        let outcome = hyper().get(format!("http://{address}/{status}").parse().unwrap()).await;
        assert_eq!(Responses::new().classify(outcome.as_ref()), expected, "{status}");
    }
}

#[tokio::test]
async fn an_exception_takes_the_place_of_the_table() {
    let address = serve(statuses()).await;
    let responses = Responses::new().except(&[
        (StatusCode::NO_CONTENT, VerdictKind::Transient),
        (StatusCode::NOT_FOUND, VerdictKind::Success),
        (StatusCode::CONFLICT, VerdictKind::Transient),
        (StatusCode::GONE, VerdictKind::Ignored),
        (StatusCode::INTERNAL_SERVER_ERROR, VerdictKind::Final),
        (StatusCode::NOT_IMPLEMENTED, VerdictKind::Unreachable),
        (StatusCode::BAD_GATEWAY, VerdictKind::Throttled),
        (StatusCode::SERVICE_UNAVAILABLE, VerdictKind::Permanent),
        (StatusCode::GATEWAY_TIMEOUT, VerdictKind::Refused),
    ]);
    let client = reqwest().build().unwrap();
    for (status, expected) in [
        (200, Verdict::Success),
        (204, Verdict::Transient),
        (404, Verdict::Success),
        (409, Verdict::Transient),
        (410, Verdict::Ignored),
        (500, Verdict::Final),
        (501, Verdict::Unreachable),
        (502, Verdict::Throttled { retry_after: None }),
        (503, Verdict::Permanent),
        (504, Verdict::Refused { retry_after: None }),
        (400, Verdict::Permanent),
    ] {
        let outcome: Outcome = client.get(format!("http://{address}/{status}")).send().await;
        assert_eq!(responses.classify(outcome.as_ref()), expected, "{status}");
        // An error that reqwest makes of the status means the same.
        let outcome = outcome.unwrap().error_for_status();
        if status >= 400 {
            outcome.as_ref().unwrap_err();
            assert_eq!(responses.classify(outcome.as_ref()), expected, "{status}");
        }
    }
}

/// Answers with the status in the path, and the two forms of a hint.
async fn hints(Path((status, form)): Path<(u16, String)>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    match form.as_str() {
        "seconds" => (status, [("retry-after", "7")]).into_response(),
        "date" => {
            let later = "Sun, 06 Nov 1994 08:49:44 GMT";
            (status, [("date", date), ("retry-after", later)]).into_response()
        }
        "now" => (status, [("date", date), ("retry-after", date)]).into_response(),
        _ => (status, [("retry-after", "presently")]).into_response(),
    }
}

#[tokio::test]
async fn a_failure_that_names_a_time_is_throttled() {
    let address = serve(Router::new().route("/{status}/{form}", get(hints))).await;
    let client = reqwest().build().unwrap();
    let ask = async |status: u16, form: &str| {
        let outcome: Outcome = client.get(format!("http://{address}/{status}/{form}")).send().await;
        Responses::new().classify(outcome.as_ref())
    };
    let seven = Verdict::Throttled { retry_after: Some(Duration::from_secs(7)) };
    for status in [429, 503, 500, 408] {
        assert_eq!(ask(status, "seconds").await, seven, "{status}");
        assert_eq!(ask(status, "date").await, seven, "{status}");
        let zero = Verdict::Throttled { retry_after: Some(Duration::ZERO) };
        assert_eq!(ask(status, "now").await, zero, "{status}");
    }
    assert_eq!(ask(429, "garbage").await, Verdict::Throttled { retry_after: None });
    assert_eq!(ask(503, "garbage").await, Verdict::Transient);
    assert_eq!(ask(404, "seconds").await, Verdict::Permanent, "it is no failure");
    assert_eq!(ask(200, "seconds").await, Verdict::Success);
}
