//! HTTP: what a response means, which requests may be repeated, and refusals as responses.
//!
//! Circuit breakers, retries and fallbacks have to know what a failure is, and HTTP makes that easy
//! to get wrong. A client answers `Ok(503)`, so a policy that looks at `Err` sees a service in good
//! health. A server that is overloaded says when to come back (`Retry-After`), and a retry that does
//! not listen makes it worse. And a POST may be a payment: repeated because its answer got lost, it
//! is made twice. [`Stack::http`](crate::Stack::http) knows all that.
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # mod example {
//! use buttress::{CircuitBreaker, Retry, ServiceErrors, Stack};
//! use std::time::Duration;
//! use tower::{Service, ServiceExt};
//!
//! async fn stock(request: reqwest::Request) -> Result<String, Box<dyn std::error::Error>> {
//!     let breaker = CircuitBreaker::builder("stock").build()?; // once, at the start
//!     let retry = Retry::builder("stock").build()?;
//!     let mut client = Stack::http()
//!         .timeout(Duration::from_secs(3))       // the whole operation
//!         .retry(retry)                          // what may be executed twice, or was not sent
//!         .breaker(breaker)
//!         .timeout(Duration::from_millis(500))   // each attempt
//!         .layer(ServiceErrors)
//!         .service(reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?);
//!     Ok(client.ready().await?.call(request).await?.text().await?)
//! }
//! # }
//! ```
//!
//! # What means what
//!
//! [`Responses`] is the classifier: which statuses are failures, in a table that you can
//! [amend](Responses::except), and what the errors of clients mean. It reads [`ResponseHead`]s, so it
//! serves every client, and asks errors that are [`ClientError`]s what became of the request:
//!
//! | | features | response | error |
//! |---|---|---|---|
//! | reqwest | `reqwest` | `reqwest::Response` | `reqwest::Error` |
//! | hyper-util | `hyper-util`, and `h2` for HTTP/2 | `http::Response` | `hyper_util::client::legacy::Error` |
//! | hyper | the same | `http::Response` | `hyper::Error` |
//! | your own | | [`ResponseHead`] | [`ClientError`], in one line |
//!
//! # Sent or not sent
//!
//! What failed before it was sent was not executed, and can be sent again whatever it is. The verdict
//! on it is [`Unreachable`](crate::Verdict::Unreachable): no connection, no such host, no TLS; a stream
//! of HTTP/2 that the server refused, or that it had not begun when it went away (feature `h2`; reqwest
//! repeats those by itself, up to twice, before anybody sees them). After that, nobody can know: a
//! connection reset, an answer that broke off, a timeout are [`Transient`](crate::Verdict::Transient),
//! and whether such a request is repeated depends on it being [`Idempotent`].
//!
//! **Switch redirects off in a client that sends what must not be executed twice**, with
//! `reqwest::redirect::Policy::none()`. A client that follows redirects by itself, as reqwest does
//! unless told otherwise, can execute a POST, be sent on to somewhere else (`303 See Other`), and find
//! nobody there. All it says of that is that there was no connection, as if nothing had been sent.
//!
//! [`Connections`] is the classifier for a breaker that looks at connections alone: any response is
//! a success.
//!
//! # Bodies
//!
//! The futures of HTTP clients end with the headers of the response, and so does what these policies
//! see of it. What comes after, and requests whose bodies are streams, are the matter of [`body`].
//!
//! # Many hosts
//!
//! One client for many hosts needs a [breaker for each](crate::breaker::keyed): [`authority`] (or
//! [`reqwest_authority`]) is its key. It stands between the retry and the timeout of an attempt, and the
//! [standard stack](crate::standard) has no place for it there:
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! # mod example {
//! use buttress::{CircuitBreaker, Retry, ServiceErrors, Stack, http};
//! use std::time::Duration;
//! # use tower::Service;
//!
//! # fn client(reqwest: reqwest::Client) -> Result<
//! #     impl Service<reqwest::Request, Response = reqwest::Response, Error = buttress::Error<reqwest::Error>>,
//! #     buttress::ConfigError,
//! # > {
//! let hosts = CircuitBreaker::builder("hosts").build_keyed(1000)?;
//! let client = Stack::http()
//!     .timeout(Duration::from_secs(3))
//!     .retry(Retry::builder("hosts").build()?)
//!     .keyed_breaker(hosts, http::reqwest_authority)
//!     .timeout(Duration::from_millis(500))
//!     .layer(ServiceErrors)
//!     .service(reqwest);
//! # Ok(client)
//! # }
//! # }
//! ```
//!
//! # Deadlines and attempts
//!
//! With an [`ExtensionContext`], or around reqwest a [`TaskContext`](crate::TaskContext), a stack knows
//! how long the answer is wanted, and whether somebody above repeats the call already; see
//! [`context`](crate::context). [`PropagateLayer`] writes both into headers for the next tier, and in
//! front of that an [`InboundLayer`] reads them back, if it is told to trust them.
//!
//! # Servers
//!
//! In front of a server [`Refusals`] is the top layer: a refusal becomes a 503 or 504 with
//! `Retry-After` and a body of `application/problem+json`. With feature `axum` a handler can return a
//! [`PolicyError`](crate::PolicyError) as it is.

pub mod body;

mod authority;
mod connections;
mod context;
mod failure;
mod grpc_timeout;
mod hints;
mod idempotent;
mod inbound;
mod message;
mod propagate;
mod propagation;
mod refusals;
mod responses;
mod stack;

#[cfg(feature = "reqwest")]
pub use authority::reqwest_authority;
pub use authority::{Authority, authority};
pub use body::{BodyTimeout, BodyTimeoutConfig, ReplayBody, ReplayLayer};
pub use connections::Connections;
pub use context::ExtensionContext;
#[cfg(feature = "tonic")]
pub(crate) use failure::find;
pub use failure::{ClientError, Failure};
pub use hints::{MAX_HINT, retry_after};
pub use idempotent::{Idempotent, IdempotentOr, Repeatable};
pub use inbound::{InboundLayer, InboundService};
pub use message::{RequestHead, ResponseHead};
pub use propagate::{PropagateFuture, PropagateLayer, PropagateService};
pub(crate) use refusals::HURRY;
pub use refusals::{Refusals, RefusalsFuture, RefusalsService, refusal_response};
pub use responses::Responses;
