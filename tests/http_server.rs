//! Refusals as a server tells them: real axum routers on real sockets, asked by a real client.
#![cfg(all(feature = "axum", feature = "http"))]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, routing::get};
use buttress::{
    CircuitBreaker, Error, PolicyError, ServiceErrors, Stack, Timeout, Verdict, classify_response,
    http,
};

type Response = axum::http::Response<Body>;

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn get_from(address: SocketAddr, path: &str) -> reqwest::Response {
    reqwest::get(format!("http://{address}{path}")).await.unwrap()
}

fn server_errors(response: &Response) -> Verdict {
    if response.status().is_server_error() { Verdict::Transient } else { Verdict::Success }
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("orders")
        .window(buttress::Window::calls(4))
        .min_calls(4)
        .open_for(Duration::from_secs(30))
        .build()
        .unwrap()
}

#[tokio::test]
async fn one_breaker_protects_all_routes_of_a_router() {
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = |status: StatusCode| {
        let calls = calls.clone();
        move || async move {
            calls.fetch_add(1, Ordering::SeqCst);
            status
        }
    };
    let breaker = breaker();
    let protected = Stack::classified(classify_response(server_errors))
        .layer(http::Refusals)
        .breaker(breaker)
        .layer(ServiceErrors);
    let app = Router::new()
        .route("/broken", get(handler(StatusCode::INTERNAL_SERVER_ERROR)))
        .route("/fine", get(handler(StatusCode::OK)))
        .route("/fine/too", get(handler(StatusCode::OK)))
        .layer(protected);
    let address = serve(app).await;

    assert_eq!(get_from(address, "/fine").await.status(), 200);
    assert_eq!(get_from(address, "/fine/too").await.status(), 200);
    for _ in 0..2 {
        assert_eq!(get_from(address, "/broken").await.status(), 500);
    }
    assert_eq!(breaker.state(), buttress::breaker::State::Open);

    // Tripped on one route over the calls of three, it refuses on all of them, without a call.
    let so_far = calls.load(Ordering::SeqCst);
    for path in ["/fine", "/fine/too", "/broken"] {
        let refused = get_from(address, path).await;
        assert_eq!(refused.status(), 503, "{path}");
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value =
            serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["title"], "Service Unavailable");
        assert_eq!(problem["code"], "circuit_open");
        assert!(!problem.to_string().contains("orders"), "the policy's name stays inside");
    }
    assert_eq!(calls.load(Ordering::SeqCst), so_far);
    breaker.reset();
    assert_eq!(get_from(address, "/fine").await.status(), 200);
}

#[tokio::test]
async fn a_timeout_is_a_gateway_timeout_without_a_hint() {
    let protected = Stack::new()
        .layer(http::Refusals)
        .timeout(Timeout::after(Duration::from_millis(20)))
        .layer(ServiceErrors);
    let app = Router::new().route("/", get(std::future::pending::<()>)).layer(protected);
    let timed_out = get_from(serve(app).await, "/").await;
    assert_eq!(timed_out.status(), 504);
    assert!(!timed_out.headers().contains_key("retry-after"));
    let problem: serde_json::Value =
        serde_json::from_slice(&timed_out.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["code"], "timed_out");
}

#[tokio::test]
async fn a_handler_returns_what_its_protected_client_says() {
    let breaker = breaker();
    breaker.force_open("maintenance", Some(Duration::from_secs(7)));
    let by_client = move || async move {
        breaker.call(|| async { Ok::<_, Error<StatusCode>>("unreachable") }).await
    };
    let by_policy = move || async move {
        let refused = breaker.call(|| async { Ok::<(), Error<()>>(()) }).await.unwrap_err();
        match refused {
            Error::Policy(error) => Err::<(), PolicyError>(error),
            Error::Service(()) => Ok(()),
        }
    };
    let by_service =
        || async { Err::<(), _>(Error::Service((StatusCode::IM_A_TEAPOT, "short and stout"))) };
    let app = Router::new()
        .route("/client", get(by_client))
        .route("/policy", get(by_policy))
        .route("/service", get(by_service));
    let address = serve(app).await;
    for path in ["/client", "/policy"] {
        let refused = get_from(address, path).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"7".parse().unwrap())
        );
    }
    assert_eq!(get_from(address, "/service").await.status(), 418);
}

/// A policy's error from `poll_ready` is not the end of the service: it is answered like any other.
#[tokio::test]
async fn law_01_a_refused_readiness_is_a_response_to_the_next_call() {
    use tower::{Layer, Service, ServiceExt};

    #[derive(Clone)]
    struct Unready(PolicyError);
    impl Service<()> for Unready {
        type Response = axum::http::Response<axum::body::Bytes>;
        type Error = Error<std::convert::Infallible>;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Ready(Err(Error::Policy(self.0)))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("called without being ready")
        }
    }

    let breaker = breaker();
    breaker.force_open("maintenance", None);
    let refusal = breaker.call(|| async { Ok::<(), Error<()>>(()) }).await.unwrap_err();
    let Error::Policy(refusal) = refusal else { panic!("it is open") };
    let mut service = http::Refusals.layer(Unready(refusal));
    let response = service.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(response.status(), 503);
}
