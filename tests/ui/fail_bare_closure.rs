//! A bare closure kept in a variable works for one lifetime only. `classify_fn` is the way around.

use buttress::{CircuitBreaker, Error, Verdict};
use tower::{Layer, Service, service_fn};

fn main() {
    let classifier = |outcome: Result<&u16, _>| match outcome {
        Ok(500..) | Err(_) => Verdict::Transient,
        Ok(_) => Verdict::Success,
    };
    let client = service_fn(|_: ()| async { Ok::<_, Error<std::io::Error>>(200_u16) });
    let breaker = CircuitBreaker::builder("ui").build().unwrap();
    let mut client = breaker.layer().classify(classifier).layer(client);
    let _ = client.call(());
}
