//! An error that does not say whether a request was sent.

use buttress::{Retry, ServiceErrors, Stack};
use tower::{Service, service_fn};

#[derive(Debug)]
struct ApiError;

fn main() {
    let retry = Retry::builder("api").build().unwrap();
    let mut client = Stack::http().retry(retry).layer(ServiceErrors).service(service_fn(
        |_: http::Request<()>| async { Err::<http::Response<()>, _>(ApiError) },
    ));
    let _ = client.call(http::Request::new(()));
}
