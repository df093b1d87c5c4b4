use super::{ClientError, Failure};
use crate::verdict::{Classify, Verdict};

/// What outcomes say of *connecting*: the classifier for a breaker that monitors attempts to connect.
///
/// Any response is a `Success`, whatever its status: somebody was there. A connection that failed is
/// `Unreachable`. A request that was sent and not answered is `Ignored`: it is no failure to
/// connect, and nor does it show that there is somebody to connect to, so it is counted on neither
/// side and no circuit closes because of it.
///
/// What a breaker sees in this way is a host that is gone, a port that is closed, a name that does
/// not resolve; not a service that is there and fails. Both can be watched, each by its own breaker:
///
/// ```
/// use buttress::{CircuitBreaker, ServiceErrors, Stack, http};
///
/// # #[cfg(feature = "reqwest")]
/// # fn build() -> Result<(), Box<dyn std::error::Error>> {
/// let answers = CircuitBreaker::builder("payments").build()?;
/// let connections = CircuitBreaker::builder("payments-connections").consecutive_failures(5).build()?;
///
/// let client = Stack::http()
///     .breaker(answers)
///     .layer(connections.layer().classify(http::Connections))
///     .layer(ServiceErrors)
///     .service(reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?);
/// # let _ = client;
/// # Ok(()) }
/// ```
///
/// The client follows no redirects: where one leads to another host, it would be the connection to
/// that which failed, and this breaker that counted it.
///
/// A client with a pool connects now and then, and reuses connections in between: each request that
/// found one counts as a connection that works. A timeout further in is a failure here as
/// everywhere; for connecting alone, set the client's own limit, such as reqwest's `connect_timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections;

impl<Res, Err> Classify<Res, Err> for Connections
where
    Err: ClientError,
{
    #[inline]
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        match outcome.map_err(ClientError::failure) {
            Ok(_) | Err(Failure::Unusable | Failure::Status(_)) => Verdict::Success,
            Err(Failure::NotSent) => Verdict::Unreachable,
            Err(Failure::NoAnswer | Failure::Unsendable) => Verdict::Ignored,
        }
    }
}
