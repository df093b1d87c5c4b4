//! A retry of a request that is not `Clone`: the note names `clone_with`.

use buttress::{Error, Retry};
use tower::{Layer, Service, service_fn};

struct Upload;

fn serve<S: Service<Upload>>(_: S) {}

fn main() {
    let client = service_fn(|_: Upload| async { Ok::<_, Error<std::io::Error>>(()) });
    serve(Retry::builder("ui").build().unwrap().layer().layer(client));
}
