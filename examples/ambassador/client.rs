//! A client for one server: connections, TLS, and where requests go.

use std::{error::Error, sync::Arc};

use buttress::http::ReplayBody;
use http::{Request, Response, Uri, uri};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tower::{Service, ServiceBuilder};

use crate::{
    config::{Protocol, Target},
    headers::{self, Via},
};

/// What is sent: a body that can be sent again.
pub(crate) type Outgoing = Request<ReplayBody<Incoming>>;

/// Sends requests to this server, whatever address they were sent to, and takes out of the answers
/// what belongs to its connections.
pub(crate) fn client(
    target: &Target,
    via: Via,
) -> Result<
    impl Service<Outgoing, Response = Response<Incoming>, Error = legacy::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static,
    Box<dyn Error>,
> {
    let origin = Origin::of(&target.url);
    let client: legacy::Client<_, ReplayBody<Incoming>> =
        legacy::Client::builder(TokioExecutor::new())
            .http2_only(target.protocol == Protocol::Http2)
            .pool_idle_timeout(target.idle_timeout)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector(target)?);
    Ok(ServiceBuilder::new()
        .map_request(move |request| origin.address(request))
        .map_response(move |mut response: Response<Incoming>| {
            let received = response.version();
            let headers = response.headers_mut();
            headers::strip_hop_by_hop(headers);
            // Only the ambassador itself says these.
            headers.remove(headers::DEGRADED);
            headers.remove(headers::REFUSED);
            headers.append(http::header::VIA, via.of(received));
            response
        })
        .service(client))
}

fn connector(target: &Target) -> Result<HttpsConnector<HttpConnector>, Box<dyn Error>> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(target.connect_timeout));
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = match &target.ca_file {
        None => config.with_webpki_roots(),
        Some(file) => {
            let unreadable = |error| format!("ca_file {} cannot be read: {error}", file.display());
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                roots.add(certificate.map_err(unreadable)?)?;
            }
            if roots.is_empty() {
                return Err(format!("ca_file {} holds no certificate", file.display()).into());
            }
            config.with_root_certificates(roots)
        }
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth());
    Ok(match target.protocol {
        Protocol::Http1 => connector.https_or_http().enable_http1().wrap_connector(http),
        Protocol::Http2 => connector.https_or_http().enable_http2().wrap_connector(http),
    })
}

/// The scheme and authority of a server.
#[derive(Clone)]
struct Origin {
    scheme: Option<uri::Scheme>,
    authority: Option<uri::Authority>,
}

impl Origin {
    fn of(url: &Uri) -> Self {
        Origin { scheme: url.scheme().cloned(), authority: url.authority().cloned() }
    }

    fn address(&self, mut request: Outgoing) -> Outgoing {
        let path = match request.uri().path_and_query() {
            Some(path) => path.clone(),
            None => uri::PathAndQuery::from_static("/"),
        };
        let mut parts = uri::Parts::default();
        parts.scheme.clone_from(&self.scheme);
        parts.authority.clone_from(&self.authority);
        parts.path_and_query = Some(path);
        // Cannot fail: the path is one, and the other two were parts of a URL.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request
    }
}
