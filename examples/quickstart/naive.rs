//! What one writes first: try three times, give each attempt its timeout.

use reqwest::{Client, Method, Request, Url};
use tokio::time::timeout;

use crate::{ATTEMPT_TIMEOUT, ATTEMPTS, load::Answer};

pub async fn call(client: Client, url: Url) -> Answer {
    for _ in 0..ATTEMPTS {
        let request = Request::new(Method::GET, url.clone());
        match timeout(ATTEMPT_TIMEOUT, client.execute(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return Answer::Good,
            _ => {}
        }
    }
    Answer::Failed
}
