//! Which requests may be executed twice.

use buttress::{
    CloneRequest, Repeats,
    http::{Idempotent, Repeatable},
};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

fn request(method: &Method) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri("http://shop/").body(Full::from("body")).unwrap()
}

fn reqwest(method: &Method) -> reqwest::Request {
    let mut request = reqwest::Request::new(method.clone(), "http://shop/".parse().unwrap());
    *request.body_mut() = Some("body".into());
    request
}

#[test]
fn idempotent_methods_may_be_repeated_and_others_not() {
    let unknown = Method::from_bytes(b"BREW").unwrap();
    for (method, expected) in [
        (Method::GET, Repeats::Always),
        (Method::HEAD, Repeats::Always),
        (Method::OPTIONS, Repeats::Always),
        (Method::TRACE, Repeats::Always),
        (Method::PUT, Repeats::Always),
        (Method::DELETE, Repeats::Always),
        (Method::POST, Repeats::IfUnsent),
        (Method::PATCH, Repeats::IfUnsent),
        (Method::CONNECT, Repeats::IfUnsent),
        (unknown, Repeats::IfUnsent),
    ] {
        assert_eq!(Idempotent.repeats(&request(&method)), expected, "{method}");
        assert_eq!(Idempotent.repeats(&reqwest(&method)), expected, "{method}");
    }
}

#[test]
fn a_key_makes_a_request_repeatable_and_an_empty_one_does_not() {
    for (key, expected) in [("\"8e03978e\"", Repeats::Always), ("", Repeats::IfUnsent)] {
        let mut post = request(&Method::POST);
        post.headers_mut().insert("idempotency-key", key.try_into().unwrap());
        assert_eq!(Idempotent.repeats(&post), expected);
        let mut post = reqwest(&Method::POST);
        post.headers_mut().insert("Idempotency-Key", key.try_into().unwrap());
        assert_eq!(Idempotent.repeats(&post), expected);
    }
}

#[test]
fn the_sender_may_say_so() {
    let mut post = request(&Method::POST);
    post.extensions_mut().insert(Repeatable);
    assert_eq!(Idempotent.repeats(&post), Repeats::Always);
    let copy = Idempotent.clone_request(&post).unwrap();
    assert_eq!(Idempotent.repeats(&copy), Repeats::Always, "the mark is copied, too");

    let searches = Idempotent::or(|request: &reqwest::Request| request.url().path() == "/search");
    let mut post = reqwest(&Method::POST);
    assert_eq!(searches.repeats(&post), Repeats::IfUnsent);
    post.url_mut().set_path("/search");
    assert_eq!(searches.repeats(&post), Repeats::Always);
    assert_eq!(searches.repeats(&reqwest(&Method::GET)), Repeats::Always);

    let searches = Idempotent::or(|request: &Request<Full<Bytes>>| request.uri().path() == "/");
    assert_eq!(searches.repeats(&request(&Method::POST)), Repeats::Always);
}

#[test]
fn a_stream_is_not_copied() {
    let mut put = reqwest(&Method::PUT);
    let copy = Idempotent.clone_request(&put).unwrap();
    assert_eq!(copy.body().unwrap().as_bytes(), Some(&b"body"[..]));
    let stream = futures::stream::iter([Ok::<_, std::io::Error>("chunk")]);
    *put.body_mut() = Some(reqwest::Body::wrap_stream(stream));
    assert!(Idempotent.clone_request(&put).is_none());
}
