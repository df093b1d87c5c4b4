//! A response whose status nobody can read.

use buttress::{CircuitBreaker, ServiceErrors, Stack};
use tower::{Service, service_fn};

fn serve<S: Service<()>>(_: S) {}

fn main() {
    let client = service_fn(|()| async { Ok::<_, std::io::Error>("200 OK") });
    let breaker = CircuitBreaker::builder("api").build().unwrap();
    serve(Stack::http().breaker(breaker).layer(ServiceErrors).service(client));
}
