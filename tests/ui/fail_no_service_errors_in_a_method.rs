//! The same, called at once: the compiler looks for a method and does not come to our note.

use std::{io, time::Duration};

use buttress::{CircuitBreaker, Timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

fn main() {
    let client = service_fn(|_: ()| async { Ok::<_, io::Error>(()) });
    let limited = Timeout::after(Duration::from_secs(1)).layer().layer(client);
    let _ = limited.clone().call(());
    let _ = limited.oneshot(());

    let breaker = CircuitBreaker::builder("ui").build().unwrap();
    let _ = breaker.layer().layer(client).ready();
}
