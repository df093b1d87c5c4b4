use std::{fmt, num::NonZeroU16};

use http::{Request, Uri, header, uri};

/// Whom a request is for: host and port, as the key of a
/// [keyed breaker](crate::breaker::keyed). Made by [`authority`].
///
/// The host is in lower case, and the port is there even where the request leaves it to the scheme,
/// so that all ways to write one server are one key. Credentials are left out: keys are logged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Box<str>,
    port: Option<NonZeroU16>,
}

impl Authority {
    fn new(host: &str, port: Option<u16>) -> Option<Authority> {
        let host = host.to_ascii_lowercase().into_boxed_str();
        let port = port.and_then(NonZeroU16::new);
        (!host.is_empty()).then_some(Authority { host, port })
    }

    /// The name or address of the host, in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; `None` where neither the request nor its scheme says which.
    pub fn port(&self) -> Option<u16> {
        self.port.map(NonZeroU16::get)
    }
}

/// `example.org:443`
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// As it is displayed, which is what a log should show of a key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whom this request is for: the authority of its URI, or else its `Host` header (RFC 9110, sections
/// 4.2.3, 4.3.1 and 7.2).
///
/// The key of a breaker per upstream. Requests that name nobody share the key `None`.
///
/// ```
/// use buttress::{CircuitBreaker, http};
/// use ::http::Request;
/// use tower::Layer;
///
/// let upstreams = CircuitBreaker::builder("upstreams").build_keyed(1000)?;
/// let layer = upstreams.layer(http::authority::<String>).classify(http::Responses::new());
/// # let _ = layer.layer(tower::service_fn(|_: Request<String>| async { Ok::<_, buttress::BoxError>(()) }));
///
/// let request = Request::get("https://API.example.org/orders").body(String::new())?;
/// assert_eq!(http::authority(&request).unwrap().to_string(), "api.example.org:443");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// One allocation per request, for the name of the host.
///
/// Behind a server, the `Host` header is whatever the caller says: a caller who makes up names takes
/// places from others. Use a key of your own there, such as the route's upstream.
pub fn authority<B>(request: &Request<B>) -> Option<Authority> {
    of_uri(request.uri()).or_else(|| {
        let host = request.headers().get(header::HOST)?;
        let host = uri::Authority::try_from(host.as_bytes()).ok()?;
        Authority::new(host.host(), host.port_u16())
    })
}

fn of_uri(uri: &Uri) -> Option<Authority> {
    let port = || match uri.scheme_str()? {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    Authority::new(uri.host()?, uri.port_u16().or_else(port))
}

/// [`authority`] of a request of reqwest's.
///
/// ```
/// # let client = reqwest::Client::new();
/// use buttress::{CircuitBreaker, http};
/// use tower::Layer;
///
/// let upstreams = CircuitBreaker::builder("upstreams").build_keyed(1000)?;
/// let layer = upstreams.layer(http::reqwest_authority).classify(http::Responses::new());
/// # let _ = layer.layer(tower::service_fn(|_: reqwest::Request| async { Ok::<_, buttress::BoxError>(()) }));
///
/// let request = client.get("https://API.example.org/orders").build()?;
/// assert_eq!(http::reqwest_authority(&request).unwrap().to_string(), "api.example.org:443");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub fn reqwest_authority(request: &reqwest::Request) -> Option<Authority> {
    let url = request.url();
    Authority::new(url.host_str()?, url.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, host: Option<&str>) -> Option<String> {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        authority(&request.body(()).unwrap()).map(|authority| authority.to_string())
    }

    #[test]
    fn all_ways_to_write_one_server_are_one_key() {
        for uri in [
            "http://example.org/",
            "http://EXAMPLE.org",
            "http://example.org:80/a?b",
            "http://user:secret@Example.Org/",
        ] {
            assert_eq!(of(uri, Some("other.example")).as_deref(), Some("example.org:80"), "{uri}");
        }
    }

    #[test]
    fn servers_that_differ_are_two() {
        assert_eq!(of("https://example.org", None).as_deref(), Some("example.org:443"));
        assert_eq!(of("http://example.org:8080", None).as_deref(), Some("example.org:8080"));
        assert_eq!(of("http://[::1]:8080", None).as_deref(), Some("[::1]:8080"));
        assert_eq!(of("http://127.0.0.1", None).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(of("ws://example.org", None).as_deref(), Some("example.org:80"));
        assert_eq!(of("ftp://example.org", None).as_deref(), Some("example.org"));
    }

    #[test]
    fn a_request_in_origin_form_says_in_its_header() {
        assert_eq!(of("/", Some("Example.org:8080")).as_deref(), Some("example.org:8080"));
        assert_eq!(of("/", Some("example.org")).as_deref(), Some("example.org"));
        assert_eq!(of("/", Some("not a host")), None);
        assert_eq!(of("/", Some("")), None);
        assert_eq!(of("/", None), None);
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn reqwest_says_the_same() {
        for uri in ["http://EXAMPLE.org/a", "https://u:p@example.org", "http://[::1]:8080/"] {
            let request = reqwest::Request::new(reqwest::Method::GET, uri.parse().unwrap());
            let theirs = reqwest_authority(&request).map(|authority| format!("{authority:?}"));
            assert_eq!(theirs, of(uri, None), "{uri}");
        }
    }
}
