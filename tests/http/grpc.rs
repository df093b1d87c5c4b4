//! gRPC's statuses, from a real server of tonic through a real channel.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Backoff, BoxError, CircuitBreaker, Classify, Error, Retry, ServiceErrors, Stack, Verdict,
    breaker::State,
    grpc::{self, Statuses},
    http::ClientError,
};
use futures::future::BoxFuture;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    server::NamedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceExt, service_fn};

use super::servers::{closed_port, listener, raw};

/// A server with one method, which does to a message what this function says.
#[derive(Clone)]
struct Echo<F>(F);

impl<F> NamedService for Echo<F> {
    const NAME: &'static str = "test.Echo";
}

impl<F> Service<http::Request<Body>> for Echo<F>
where
    F: Fn(String) -> Result<Response<String>, Status> + Clone + Send + Sync + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            let method = service_fn(move |request: Request<String>| {
                std::future::ready(answer(request.into_inner()))
            });
            let codec = ProstCodec::<String, String>::default();
            Ok(tonic::server::Grpc::new(codec).unary(method, request).await)
        })
    }
}

async fn serve<F>(answer: F) -> SocketAddr
where
    F: Fn(String) -> Result<Response<String>, Status> + Clone + Send + Sync + 'static,
{
    let (listener, address) = listener().await;
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(Server::builder().add_service(Echo(answer)).serve_with_incoming(incoming));
    address
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// What the classifier said of each response, before the client had read its trailers.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Verdict>>>);

impl<Res, Err> Classify<Res, Err> for Heard
where
    Statuses: Classify<Res, Err>,
{
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        let verdict = Statuses::new().classify(outcome);
        self.0.lock().unwrap().push(verdict);
        verdict
    }
}

/// One call as a generated client makes it, and what the classifier said of it inside the channel
/// and outside of the client.
async fn call(address: SocketAddr, message: &str) -> (Verdict, Verdict) {
    let heard = Heard::default();
    let breaker = CircuitBreaker::builder("grpc").build().unwrap();
    let channel = Stack::classified(heard.clone())
        .breaker(breaker)
        .layer(ServiceErrors)
        .service(channel(address));
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = ProstCodec::<String, String>::default();
    let path = PathAndQuery::from_static("/test.Echo/Echo");
    let outcome = client.unary(Request::new(message.to_owned()), path, codec).await;
    let inside = heard.0.lock().unwrap()[0];
    (inside, Statuses::new().classify(outcome.as_ref()))
}

/// Fails with the code that the message names, and with pushback where it names one, too.
fn obey(message: String) -> Result<Response<String>, Status> {
    let (code, pushback) = message.split_once(' ').unwrap_or((&message, ""));
    let code = Code::from(code.parse::<i32>().unwrap());
    if code == Code::Ok {
        return Ok(Response::new(message));
    }
    let mut status = Status::new(code, "as you say");
    if let Ok(pushback) = MetadataValue::try_from(pushback)
        && !pushback.is_empty()
    {
        status.metadata_mut().insert("grpc-retry-pushback-ms", pushback);
    }
    Err(status)
}

#[tokio::test]
async fn a_call_that_fails_at_once_has_its_status_in_the_headers() {
    let address = serve(obey).await;
    for code in 0..=16 {
        let (inside, outside) = call(address, &code.to_string()).await;
        let headers = http::HeaderMap::new();
        assert_eq!(inside, Statuses::new().verdict(Code::from(code), &headers), "{code}");
        assert_eq!(outside, inside, "{code}");
    }
}

#[tokio::test]
async fn pushback_is_heard() {
    let address = serve(obey).await;
    let wait = |ms| Verdict::Throttled { retry_after: Some(Duration::from_millis(ms)) };
    for (message, expected) in [
        ("14 250", wait(250)),
        ("8 0", wait(0)),
        ("14 -1", Verdict::Final),
        ("14 later", Verdict::Final),
        ("5 250", Verdict::Permanent),
    ] {
        assert_eq!(call(address, message).await, (expected, expected), "{message}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_in_the_channel_and_as_a_status() {
    let unreachable = (Verdict::Unreachable, Verdict::Unreachable);
    assert_eq!(call(closed_port().await, "0").await, unreachable);
}

#[tokio::test]
async fn a_refused_stream_is_unreachable_in_the_channel_and_as_a_status() {
    let (address, _) = raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    })
    .await;
    let unreachable = (Verdict::Unreachable, Verdict::Unreachable);
    assert_eq!(call(address, "0").await, unreachable);
}

/// A server of HTTP/2 that answers with this head, and with these trailers if any.
async fn answers(
    head: fn() -> http::Response<()>,
    trailers: Option<fn() -> http::HeaderMap>,
) -> SocketAddr {
    let (address, _) = raw(move |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(head(), trailers.is_none()).unwrap();
            if let Some(trailers) = trailers {
                body.send_trailers(trailers()).unwrap();
            }
        }
    })
    .await;
    address
}

fn grpc_head(status: u16) -> http::Response<()> {
    let head = http::Response::builder().status(status).header("content-type", "application/grpc");
    head.body(()).unwrap()
}

#[tokio::test]
async fn a_missing_status_is_no_success() {
    // The response has ended with its headers.
    let address = answers(|| grpc_head(200), None).await;
    assert_eq!(call(address, "0").await, (Verdict::Transient, Verdict::Transient));
    // A proxy that speaks no gRPC.
    for (head, expected) in [
        ((|| grpc_head(503)) as fn() -> http::Response<()>, Verdict::Transient),
        (|| grpc_head(500), Verdict::Transient),
        (|| grpc_head(404), Verdict::Permanent),
        (|| grpc_head(204), Verdict::Transient),
    ] {
        let address = answers(head, None).await;
        assert_eq!(call(address, "0").await.0, expected, "{:?}", head());
    }
}

#[tokio::test]
async fn a_status_in_the_trailers_is_known_when_they_are() {
    fn unavailable() -> http::HeaderMap {
        [(http::HeaderName::from_static("grpc-status"), "14".parse().unwrap())]
            .into_iter()
            .collect()
    }
    let address = answers(|| grpc_head(200), Some(unavailable)).await;
    assert_eq!(call(address, "0").await, (Verdict::Success, Verdict::Transient));
    assert_eq!(grpc::status(&unavailable()), Some(Code::Unavailable));
    assert_eq!(Statuses::new().verdict_of_trailers(Some(&unavailable())), Verdict::Transient);
}

/// A stack over whole calls, as around a method of a generated client.
#[tokio::test]
async fn whole_calls_are_repeated_by_their_status() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let address = serve(move |message| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Status::unavailable("warming up")),
        _ => Ok(Response::new(message)),
    })
    .await;
    let client = Grpc::new(channel(address));
    let method = service_fn(move |message: String| {
        let mut client = client.clone();
        async move {
            client.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<String, String>::default();
            let path = PathAndQuery::from_static("/test.Echo/Echo");
            client.unary::<_, String, _>(Request::new(message), path, codec).await
        }
    });
    let backoff = Backoff::constant(Duration::from_millis(1));
    let retry = Retry::builder("grpc").backoff(backoff).build().unwrap();
    let breaker = CircuitBreaker::builder("grpc").min_calls(2).build().unwrap();
    let mut echo = Stack::classified(Statuses::new())
        .retry(retry)
        .breaker(breaker)
        .layer(ServiceErrors)
        .service(method);
    let reply = echo.ready().await.unwrap().call("hello".to_owned()).await.unwrap();
    assert_eq!(reply.into_inner(), "hello");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(retry.counts().retried, 1);
    assert_eq!(breaker.state(), State::Closed);
    let counts = breaker.snapshot();
    assert_eq!((counts.failures, counts.calls), (1, 2));
}

#[test]
fn a_status_is_found_in_boxes() {
    let outcome = |error| Err::<Response<()>, BoxError>(error);
    let status = BoxError::from(Error::Service(Status::not_found("no such user")));
    let verdict = Statuses::new().classify(outcome(status).as_ref());
    assert_eq!(verdict, Verdict::Permanent);
    let verdict = Statuses::new().classify(outcome("something else".into()).as_ref());
    assert_eq!(verdict, Verdict::Transient);
}

#[allow(dead_code)]
fn errors_of_channels_are_client_errors(error: tonic::transport::Error) -> impl ClientError {
    Error::Service(error)
}
