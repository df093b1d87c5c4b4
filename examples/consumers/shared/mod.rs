//! What the three examples of consumers share: orders, a database that has a bad day, the handler
//! that writes the ones into the other, and what is shown of it.
//!
//! An example brings the broker:
//!
//! ```text
//! let breaker = shared::breaker()?;
//! let database = Database::new();
//! let handler = shared::handler(breaker, &database)?;
//! let running = shared::consumer(breaker)?.start_decoded(source, decode, handler);
//! let produced = tokio::spawn(shared::produce(publish));
//! shared::watch(running, breaker, &database, produced).await
//! ```

mod database;
mod order;
mod show;

use std::time::Duration;

use buttress::{
    Backoff, CircuitBreaker, ConfigError, Error, Retry, ServiceErrors, Stack, Verdict, Window,
    consumer::Consumer,
};
use tower::{Service, service_fn};

pub(crate) use self::{
    database::{Database, Problem},
    order::{Order, produce},
    show::watch,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What an outcome means; said once, for the policies around the database and for the consumer.
pub(crate) type Classifier = fn(Result<&(), &Error<Problem>>) -> Verdict;

fn meaning(outcome: Result<&(), &Error<Problem>>) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Success,
        // It will be no better the next time.
        Err(Error::Service(Problem::NoSuchArticle(_))) => Verdict::Permanent,
        Err(_) => Verdict::Transient,
    }
}

/// Opens when half of the last twenty calls have failed, and probes after half a second, then a second.
pub(crate) fn breaker() -> Result<CircuitBreaker, ConfigError> {
    CircuitBreaker::builder("database")
        .window(Window::calls(20))
        .min_calls(10)
        .open_for(Backoff::exponential(millis(500)).max(millis(1000)))
        .probes(2)
        .build()
}

/// Writes orders into the database, with the policies that any client of it would have.
pub(crate) fn handler(
    breaker: CircuitBreaker,
    database: &Database,
) -> Result<
    impl Service<Order, Response = (), Error = Error<Problem>, Future: Send + 'static>
    + Clone
    + Send
    + 'static,
    ConfigError,
> {
    let retry =
        Retry::builder("database").max_attempts(3).backoff(Backoff::exponential(millis(20)));
    let database = database.clone();
    Ok(Stack::classified(meaning as Classifier)
        .retry(retry.build()?)
        .breaker(breaker)
        .timeout(millis(250))
        .layer(ServiceErrors)
        .service(service_fn(move |order| {
            let database = database.clone();
            async move { database.store(order).await }
        })))
}

/// The consumer: eight orders at a time, none while the circuit is open.
pub(crate) fn consumer(breaker: CircuitBreaker) -> Result<Consumer<Classifier>, ConfigError> {
    Consumer::builder("orders")
        .concurrency(8)
        .max_deliveries(5)
        .retry_after(Backoff::exponential(millis(500)))
        .gate(breaker)
        .classified(meaning as Classifier)
        .build()
}
