//! An error that does not say whether a request was sent.

use buttress::{Retry, ServiceErrors, Stack};
use tower::{Service, service_fn};

type Request = http::Request<()>;
type Response = http::Response<()>;

#[derive(Debug)]
struct ApiError;

fn serve<S: Service<Request>>(_: S) {}

fn main() {
    let client = service_fn(|_: Request| async { Err::<Response, _>(ApiError) });
    let retry = Retry::builder("api").build().unwrap();
    serve(Stack::http().retry(retry).layer(ServiceErrors).service(client));
}
