//! A layer over a service whose error cannot carry a refusal: the note names `ServiceErrors`.

use std::{io, time::Duration};

use buttress::Timeout;
use tower::{Layer, Service, service_fn};

fn serve<S: Service<()>>(_: S) {}

fn main() {
    let client = service_fn(|_: ()| async { Ok::<_, io::Error>(()) });
    serve(Timeout::after(Duration::from_secs(1)).layer().layer(client));
}
