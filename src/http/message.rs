use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode};

/// What a policy reads of a response, whoever's type it is: `http::Response`, and with feature
/// `reqwest` also `reqwest::Response`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be an HTTP response",
    note = "`http::Response` is one; `reqwest::Response` with feature `reqwest` of buttress",
    note = "for a type of your own: implement `buttress::http::ResponseHead`"
)]
pub trait ResponseHead {
    /// Its status.
    fn status(&self) -> StatusCode;

    /// Its headers.
    fn headers(&self) -> &HeaderMap;
}

impl<B> ResponseHead for Response<B> {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

#[cfg(feature = "reqwest")]
impl ResponseHead for reqwest::Response {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

/// What a policy reads, and may write, of a request, whoever's type it is: `http::Request`, and with feature
/// `reqwest` also `reqwest::Request`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be an HTTP request",
    note = "`http::Request` is one; `reqwest::Request` with feature `reqwest` of buttress",
    note = "for a type of your own: implement `buttress::http::RequestHead`"
)]
pub trait RequestHead {
    /// Its method.
    fn method(&self) -> &Method;

    /// Its headers.
    fn headers(&self) -> &HeaderMap;

    /// Its headers, to tell the next tier something.
    fn headers_mut(&mut self) -> &mut HeaderMap;

    /// What else travels with it, where its type lets others see that. reqwest's does not.
    fn extensions(&self) -> Option<&Extensions>;
}

impl<B> RequestHead for Request<B> {
    #[inline]
    fn method(&self) -> &Method {
        self.method()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    #[inline]
    fn extensions(&self) -> Option<&Extensions> {
        Some(self.extensions())
    }
}

#[cfg(feature = "reqwest")]
impl RequestHead for reqwest::Request {
    #[inline]
    fn method(&self) -> &Method {
        self.method()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    #[inline]
    fn extensions(&self) -> Option<&Extensions> {
        None
    }
}
