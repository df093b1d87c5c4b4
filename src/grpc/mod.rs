//! gRPC: what a status means, and refusals as statuses.
//!
//! A gRPC server says `200 OK` to nearly everything and what came of the call in a header or trailer,
//! `grpc-status`. [`Statuses`] reads that, and pushback, for every policy of a stack.
//!
//! Around a channel, so that all methods of all clients over it are protected:
//!
//! ```no_run
//! use buttress::{CircuitBreaker, ServiceErrors, Stack, grpc};
//! use std::time::Duration;
//! use tonic::transport::Endpoint;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder("stock").build()?;
//! let channel = Stack::classified(grpc::Statuses::new())
//!     .layer(grpc::Refusals) // or refusals reach the client as `Unknown`
//!     .breaker(breaker)
//!     .timeout(Duration::from_millis(500))
//!     .layer(ServiceErrors)
//!     .service(Endpoint::from_static("http://stock:50051").connect_lazy());
//! // let client = StockClient::new(channel);
//! # let _ = channel;
//! # Ok(()) }
//! ```
//!
//! A retry belongs around a method of the client instead, as a service from its message to its
//! response: there a call is complete, its trailers included, and its message can be cloned. The error
//! is a [`tonic::Status`] there, which a stack speaks as it is: without a
//! [`ServiceErrors`](crate::ServiceErrors), which would hide a refusal of the channel's policies inside
//! of what the service said, and have it repeated.
//!
//! ```no_run
//! use buttress::{Retry, Stack, grpc};
//! use tonic::{Response, Status};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[derive(Clone)] struct StockClient;
//! # impl StockClient {
//! #     async fn count(&mut self, _: String) -> Result<Response<u32>, Status> {
//! #         Err(Status::unavailable("closed"))
//! #     }
//! # }
//! async fn count(client: StockClient) -> Result<u32, Box<dyn std::error::Error>> {
//!     let retry = Retry::builder("stock").build()?;
//!     let mut count = Stack::classified(grpc::Statuses::new())
//!         .retry(retry)
//!         .service(service_fn(move |article: String| {
//!             let mut client = client.clone();
//!             async move { client.count(article).await }
//!         }));
//!     Ok(count.ready().await?.call("apples".to_owned()).await?.into_inner())
//! }
//! ```
//!
//! gRPC has no idempotent methods that a client could tell from others. A retry like this one repeats
//! what may have been executed; where that must not be, give the stack a copier whose
//! [`repeats`](crate::CloneRequest::repeats) says so.
//!
//! The other way round, [`Refusals`] is the top layer of a server's stack, too. Deadlines go out as
//! `grpc-timeout` with [`PropagateLayer::grpc`](crate::http::PropagateLayer::grpc), and are read back by
//! an [`InboundLayer`](crate::http::InboundLayer). All of it together runs in `examples/grpc.rs`.

mod classify;
mod refusals;
mod status_error;

pub use classify::{Statuses, status};
pub use refusals::{Refusals, RefusalsFuture, RefusalsService};
pub use status_error::StatusError;
