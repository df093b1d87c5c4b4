//! What a gateway owes both sides in headers (RFC 9110, section 7.6).

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{self, Entry},
    request::Parts,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// In an answer that is not the upstream's: whose it is, `backup` or `static`.
pub(crate) const DEGRADED: HeaderName = HeaderName::from_static("ambassador-degraded");
/// In a refusal: why, in a word.
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("ambassador-refused");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Fields of one connection, beside those that its `Connection` names.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATION_INFO,
];

/// Takes out what belongs to the connection that a message came over.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .filter_map(|token| HeaderName::try_from(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // The length of what came in chunks is whatever it turns out to be (RFC 9112, section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The elements of a list, over all the lines that it is spread over.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Why a request cannot be passed on, as a status and a word.
pub(crate) fn objection<B>(request: &Request<B>) -> Option<(u16, &'static str)> {
    let headers = request.headers();
    if request.method() == Method::CONNECT {
        return Some((501, "connect_not_supported"));
    }
    // An offer of HTTP/2 on a connection without TLS can be passed over; Java's client makes it
    // with every first request. Of anything else the caller is told.
    let mut offers = tokens(headers, &header::UPGRADE);
    if offers.any(|protocol| !protocol.eq_ignore_ascii_case("h2c")) {
        return Some((501, "upgrade_not_supported"));
    }
    // `100-continue` hyper takes care of, when somebody begins to read the body.
    let mut expectations = tokens(headers, &header::EXPECT);
    if expectations.any(|expected| !expected.eq_ignore_ascii_case("100-continue")) {
        return Some((417, "expectation_not_supported"));
    }
    // RFC 9112, section 3.2: one, and exactly one.
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some((400, "host_missing_or_ambiguous"));
    }
    None
}

/// What is said of a request and to whom.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub(crate) via: Via,
    /// The upstream sees the caller's `Host`.
    pub(crate) preserve_host: bool,
    /// What callers say of those before them is believed.
    pub(crate) trust_inbound: bool,
    /// Over HTTP/1.1 `TE` has to be named in `Connection`.
    pub http2: bool,
}

impl Forwarding {
    /// Makes of a request that was received one that can be sent. Its address is the upstream's
    /// business.
    pub(crate) fn forward(&self, parts: &mut Parts, caller: IpAddr) {
        let headers = &mut parts.headers;
        let trailers = tokens(headers, &header::TE).any(|it| it.eq_ignore_ascii_case("trailers"));
        strip_hop_by_hop(headers);
        headers.remove(header::EXPECT);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if !self.http2 {
                headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        self.say_who_calls(parts, caller);
        parts.headers.append(header::VIA, self.via.of(parts.version));
        parts.version = Version::HTTP_11;
    }

    fn say_who_calls(&self, parts: &mut Parts, caller: IpAddr) {
        let headers = &mut parts.headers;
        if !self.trust_inbound {
            for name in [&FORWARDED_FOR, &FORWARDED_HOST, &FORWARDED_PROTO, &header::FORWARDED] {
                headers.remove(name);
            }
        }
        // In a request with an authority of its own (HTTP/2, absolute form) `Host` says nothing.
        let authority = parts.uri.authority();
        let host = authority.and_then(|to| HeaderValue::from_str(to.as_str()).ok());
        let received = headers.remove(header::HOST);
        if let Some(host) = host.or(received) {
            if self.preserve_host {
                headers.insert(header::HOST, host.clone());
            }
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        let caller = caller.to_string();
        match headers.entry(FORWARDED_FOR) {
            Entry::Vacant(vacant) => {
                vacant.insert(header_value(&caller));
            }
            Entry::Occupied(mut before) => {
                let before: Vec<_> =
                    before.iter_mut().map(|it| it.to_str().unwrap_or("unknown")).collect();
                let all = header_value(&format!("{}, {caller}", before.join(", ")));
                headers.insert(FORWARDED_FOR, all);
            }
        }
    }
}

fn header_value(visible: &str) -> HeaderValue {
    HeaderValue::from_str(visible).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The protocol that a message was received with, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    pub(crate) fn new(name: &str) -> Self {
        let via = |version| header_value(&format!("{version} {name}"));
        Via { http10: via("1.0"), http11: via("1.1"), http2: via("2") }
    }

    pub(crate) fn of(&self, version: Version) -> HeaderValue {
        match version {
            Version::HTTP_10 | Version::HTTP_09 => self.http10.clone(),
            Version::HTTP_2 => self.http2.clone(),
            _ => self.http11.clone(),
        }
    }
}

/// The id that a request came with, if that is one that a log can hold; else a new one.
pub(crate) fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let holds = |id: &HeaderValue| {
        let id = id.as_bytes();
        (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    };
    match headers.get(REQUEST_ID) {
        Some(id) if holds(id) => id.clone(),
        _ => {
            let id = header_value(&format!("{:032x}", rand::random::<u128>()));
            headers.insert(REQUEST_ID, id.clone());
            id
        }
    }
}
