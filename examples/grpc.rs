//! A gRPC client and a gRPC server, each behind policies: statuses that mean what gRPC says they do,
//! deadlines that both sides know of, and refusals that are statuses like any other.
//!
//! ```text
//! cargo run --example grpc --features tonic
//! ```
//!
//! Client and server are the generated ones of the health service, so that this needs no `protoc`.

use std::{error::Error, net::Ipv4Addr, num::NonZeroU32, time::Duration};

use buttress::{
    CallContext, CircuitBreaker, Retry, ServiceErrors, Stack, StackError, TaskContext, grpc,
    http::{ExtensionContext, InboundLayer, PropagateLayer},
};
use futures::stream;
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceExt, service_fn};

/// The server's own code: it knows nothing of policies, but may ask how much time it has.
struct Warehouse;

#[tonic::async_trait]
impl Health for Warehouse {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let context = CallContext::current();
        let attempt = context.attempt.map_or(0, NonZeroU32::get);
        let Some(left) = context.time_left() else {
            return Err(Status::failed_precondition("who waits for ever?"));
        };
        println!("  server: {service}, attempt {attempt}, {} ms left", left.as_millis());
        match service.as_str() {
            "busy" if attempt < 3 => Err(Status::unavailable("come again")),
            "stuck" => std::future::pending().await,
            _ => Ok(Response::new(HealthCheckResponse { status: 1 })),
        }
    }

    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not watched"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ---- The server: what callers say of their time is read, and is a limit like its own.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let policies = Stack::new()
        .context(ExtensionContext)
        .layer(InboundLayer::new().trust_inbound())
        .layer(grpc::Refusals)
        .timeout(Duration::from_secs(10))
        .layer(ServiceErrors);
    let server = Server::builder().layer(policies).add_service(HealthServer::new(Warehouse));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    // ---- Around the channel: every method of every client over it.
    let breaker = CircuitBreaker::builder("warehouse").consecutive_failures(5).build()?;
    let channel = Stack::classified(grpc::Statuses::new())
        .context(ExtensionContext)
        .layer(grpc::Refusals) // a refusal is a status, as the generated client expects
        .breaker(breaker)
        .timeout(Duration::from_millis(300)) // each attempt
        .layer(PropagateLayer::grpc()) // `grpc-timeout`
        .layer(ServiceErrors)
        .service(Endpoint::from_shared(address)?.connect_lazy());
    let client = HealthClient::new(channel);

    // ---- Around a method: retries, since a message can be cloned. The error is a status up here.
    let retry = Retry::builder("warehouse").build()?;
    let check = Stack::classified(grpc::Statuses::new())
        .context(TaskContext)
        .timeout(Duration::from_secs(2)) // the whole operation
        .retry(retry)
        .service(service_fn(move |service: &'static str| {
            let mut client = client.clone();
            async move { client.check(HealthCheckRequest { service: service.into() }).await }
        }));

    println!("A call, and how much of its time the server sees:");
    assert_eq!(check.clone().oneshot("well").await?.into_inner().status, 1);

    println!("UNAVAILABLE, twice: it is tried again.");
    assert_eq!(check.clone().oneshot("busy").await?.into_inner().status, 1);
    assert_eq!(retry.counts().retried, 2);

    println!("No answer: each attempt ends in time, here and on the server.");
    let status = check.clone().oneshot("stuck").await.expect_err("it never answers");
    println!("  client: {:?}: {}", status.code(), status.message());
    assert_eq!(status.code(), Code::DeadlineExceeded);

    println!("Again, until five failures in a row open the circuit: a refusal, without a request.");
    let status = check.clone().oneshot("stuck").await.expect_err("the circuit opens");
    println!("  client: {:?}: {}", status.code(), status.message());
    println!("  behind it: {}", status.policy_error().ok_or("no policy refused it")?);
    assert_eq!(status.code(), Code::Unavailable);
    Ok(())
}
