//! A response whose status nobody can read.

use buttress::{CircuitBreaker, ServiceErrors, Stack};
use tower::{Service, service_fn};

fn main() {
    let breaker = CircuitBreaker::builder("api").build().unwrap();
    let mut client = Stack::http().breaker(breaker).layer(ServiceErrors).service(service_fn(
        |_: http::Request<()>| async { Ok::<String, std::io::Error>(String::new()) },
    ));
    let _ = client.call(http::Request::new(()));
}
