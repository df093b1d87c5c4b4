//! What the programs in `tests/ui` get wrong, as it should be written. (A test of its own and not of
//! trybuild's: for a program that passes, that would not only check but build every dependency anew.)

use std::{io, time::Duration};

use buttress::{
    CircuitBreaker, Error, Retry, ServiceErrors, Stack, Timeout, Verdict, classify_fn,
    error::ServiceErrorsService, timeout::TimeoutService,
};
use tower::{Layer, Service, service_fn};

struct Upload;

/// A stack in a field, which nothing has called yet.
struct Client<S> {
    _service: TimeoutService<ServiceErrorsService<S>>,
}

#[test]
fn the_named_ways_compile() {
    let client = service_fn(|_: Upload| async { Ok::<_, io::Error>(200_u16) });
    let timeout = Timeout::after(Duration::from_secs(1)).layer();
    let _client = Client { _service: timeout.layer(ServiceErrors.layer(client)) };
    let _layers = Stack::new().layer(ServiceErrors);

    let classifier = classify_fn(|outcome: Result<&u16, &Error<io::Error>>| match outcome {
        Ok(500..) | Err(_) => Verdict::Transient,
        Ok(_) => Verdict::Success,
    });
    let breaker = CircuitBreaker::builder("ui").build().unwrap();
    let retry = Retry::builder("ui").build().unwrap();
    let mut client = Stack::classified(classifier)
        .clone_with(|_: &Upload| Some(Upload))
        .timeout(timeout_of_all())
        .retry(retry)
        .breaker(breaker)
        .layer(ServiceErrors)
        .service(client);
    drop(client.call(Upload));
}

fn timeout_of_all() -> Duration {
    Duration::from_secs(3)
}
