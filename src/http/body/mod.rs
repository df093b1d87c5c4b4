//! Bodies: requests that are sent again although they stream, and responses that are watched to
//! their end.
//!
//! The future of an HTTP client is ready when the *head* of the response is there: its status and
//! its headers. The body is still to come, and with it whatever can go wrong: the server stalls, the
//! connection is reset in the middle, a gRPC call fails in its trailers. By then the future is gone,
//! and with it every policy that was wrapped around it: the timeout has let go, the breaker has
//! counted a success. That is how the futures have to be, for nobody wants a download of an hour to
//! be collected in memory first. So what should reach further travels in the body.
//!
//! All three parts are opt-in, because each has a cost and a meaning of its own:
//!
//! | part | what it does | where it goes |
//! |---|---|---|
//! | [`ReplayLayer`] | a streaming *request* body can be sent again, up to a limit | above the retry |
//! | [`BodyTimeout`] | a *response* body that stalls, or takes too long, ends with an error | next to the client |
//! | [`through_body`] | a breaker gives its verdict at the end of the response's body | where the breaker is |
//!
//! [`through_body`]: crate::breaker::CircuitBreakerLayer::through_body
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::{
//!     CircuitBreaker, PolicyErrorKind, Retry, ServiceErrors, Stack, StackError,
//!     http::{BodyTimeout, ReplayBody, ReplayLayer},
//! };
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full, StreamBody};
//! # use bytes::Bytes;
//! # use futures::{StreamExt, stream};
//! # use http_body::Frame;
//! use tower::{Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder("photos").build()?;
//! let retry = Retry::builder("photos").build()?;
//! let timeout = BodyTimeout::builder("photos").stall(Duration::from_secs(5)).build()?;
//!
//! # // A server that sends half of an answer and then nothing.
//! # let client = tower::service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
//! #     let half = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("half")))]);
//! #     Ok::<_, std::io::Error>(Response::new(StreamBody::new(half.chain(stream::pending()))))
//! # });
//! let mut client = Stack::http()                 // what fails, and what may be repeated
//!     .layer(ReplayLayer::new())                 // bodies can be sent again..
//!     .retry(retry)                              // ..by this
//!     .breaker_through_body(breaker)             // counts what comes of the body, too
//!     .layer(timeout.layer())                    // 5 s without progress: an error
//!     .layer(ServiceErrors)
//!     .service(client);
//!
//! let request = Request::get("http://photos/1").body(Full::<Bytes>::default())?;
//! let response = client.ready().await?.call(request).await?; // The head is there, and good.
//! assert_eq!(breaker.snapshot().calls, 0);                   // Nothing is decided yet.
//!
//! let stalled = response.into_body().collect().await.unwrap_err();
//! let policy = stalled.policy_error().expect("the timeout's");
//! assert_eq!(policy.kind(), PolicyErrorKind::TimedOut);
//! assert_eq!(stalled.to_string(), r#"timeout "photos": the body stalled for 5s"#);
//! assert_eq!(breaker.snapshot().failures, 1);
//! # Ok(()) }
//! ```
//!
//! # Requests that stream
//!
//! [`Idempotent`](super::Idempotent) copies a request with a [`ReplayBody`] as long as that can be
//! sent from its beginning, and asks again right before the copy is sent. A retry of one that cannot
//! be counts as `uncloneable`, and its caller gets the outcome there is. Where nothing has been read
//! of a body, a refused connection say, a body of any length is sent again.
//!
//! # Time
//!
//! [`stall`](BodyTimeoutBuilder::stall) is the server's time: it runs while somebody waits for the
//! next piece, and starts anew with each. A reader that takes its time between two pieces is not
//! blamed; nor is one that asks, goes away, and asks again later.
//! [`total`](BodyTimeoutBuilder::total) is everybody's: from the call to the end of the body.
//! Neither replaces a [`Timeout`](crate::Timeout), which limits the wait for the head.
//!
//! A reader that never asks again is never told, and keeps its connection for as long: it is the
//! reader who has to be limited then, by a server's own timeouts.
//!
//! # What a breaker counts
//!
//! | what happens | verdict |
//! |---|---|
//! | an error, or a head that the classifier calls a failure | at once, as ever |
//! | a good head, and the body is read to its end | a success, unless its [trailers](ClassifyTrailers) say otherwise |
//! | a good head without a body: 204, `HEAD`, gRPC's "trailers-only" | the same, at once |
//! | `Permanent` by its head (404), and the body is read to its end | `Permanent`: the service answered |
//! | the body fails | `Transient`; an error of a policy below means what it always means |
//! | the body panics | a failure |
//! | the reader drops it before its end | nothing, and a probe goes to somebody else; see [`abandoned`] |
//!
//! A body is at its end where it says so itself, at its trailers, or when there is nothing more; a
//! reader that has all of a stated length need not look further.
//!
//! [Slow calls] and [`abandoned_after`] go by the time that the service was waited for: what a reader
//! takes between two pieces is left out. (The histogram of durations has all of it.) While half-open,
//! each piece is a sign of life, so that a probe with a long body is not overdue as long as it gets
//! on; set [`half_open_for`] above the pause that a reader may make. One that has got on for all of
//! that time has shown what it was sent to show, and is what its head said: a stream of events has no
//! end, and everybody else is refused until there is a verdict.
//!
//! A retry further out has long got its answer, the head. What fails after that is the reader's to
//! deal with; nobody could take back what it has read.
//!
//! [`abandoned`]: crate::breaker::CircuitBreakerBuilder::abandoned
//! [`abandoned_after`]: crate::breaker::CircuitBreakerBuilder::abandoned_after
//! [`half_open_for`]: crate::breaker::CircuitBreakerBuilder::half_open_for
//! [Slow calls]: crate::breaker::CircuitBreakerBuilder::slow_calls
//!
//! # Around reqwest
//!
//! reqwest has a response of its own, which turns into `http`'s and back. These go below and above:
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! # fn around(client: reqwest::Client, timeout: buttress::http::BodyTimeout) {
//! use buttress::ServiceErrors;
//! use http::Response;
//!
//! let client = tower::ServiceBuilder::new()
//!     .map_response(|response: Response<_>| {
//!         reqwest::Response::from(response.map(reqwest::Body::wrap))
//!     })
//!     .layer(timeout.layer())
//!     .layer(ServiceErrors)
//!     .map_response(Response::<reqwest::Body>::from)
//!     .service(client);
//! # fn is_service<S: tower::Service<reqwest::Request, Response = reqwest::Response>>(_: S) {}
//! # is_service(client);
//! # }
//! ```
//!
//! # What it costs
//!
//! A [`ReplayBody`] allocates once, if it is not empty, takes a lock that is nearly always free for
//! each piece, and copies up to its limit while somebody has a copy. A [`BodyTimeout`] costs a timer
//! each time a body has to wait, which lies inside of it, and with a total a reading of the clock per
//! piece. A breaker through the body costs a few words in it. Neither of these two allocates.
//!
//! # Laws
//!
//! Readiness (1) is that of what is wrapped. Cancel safety (3): a body dropped anywhere gives back
//! what it holds, and a request body that is dropped halfway leaves the rest to the next attempt.
//! Liveness (5): a body that waits is woken by its piece or by its timer. Time is tokio's (10).

mod end;
mod replay;
mod replay_copies;
mod replay_error;
mod replay_layer;
mod through;
mod timeout;

pub use replay::ReplayBody;
pub use replay_error::ReplayError;
pub use replay_layer::{ReplayLayer, ReplayService};
pub use through::{
    ClassifyTrailers, Complete, GuardedBody, ThroughBodyFuture, ThroughBodyLayer,
    ThroughBodyService,
};
pub use timeout::{
    BodyTimeout, BodyTimeoutBuilder, BodyTimeoutConfig, BodyTimeoutFuture, BodyTimeoutLayer,
    BodyTimeoutService, TimeoutBody,
};
