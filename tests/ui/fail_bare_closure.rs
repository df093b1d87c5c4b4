//! A bare closure in a variable works for one lifetime only; `classify_fn` is the way around.

use buttress::{CircuitBreaker, Error, Verdict};
use tower::{Layer, Service, service_fn};

fn serve<S: Service<()>>(_: S) {}

fn main() {
    let client = service_fn(|_: ()| async { Ok::<_, Error<std::io::Error>>(200_u16) });
    let breaker = CircuitBreaker::builder("ui").build().unwrap();
    let classifier = |outcome: Result<&u16, _>| match outcome {
        Ok(500..) | Err(_) => Verdict::Transient,
        Ok(_) => Verdict::Success,
    };
    serve(breaker.layer().classify(classifier).layer(client));
}
