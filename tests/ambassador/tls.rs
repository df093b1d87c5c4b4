//! An upstream behind TLS, whose certificate nobody in the Web's list has signed.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{
    process::{Ambassador, client, file},
    servers::listener,
};

/// A server that speaks these protocols over TLS, and the certificate of who signed its own.
async fn upstream(protocols: &[&str]) -> (SocketAddr, String) {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([String::from("localhost")]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();

    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listener().await;
    let router = Router::new().fallback(|request: axum::extract::Request| async move {
        format!("{:?} for {:?}", request.version(), request.headers().get("host"))
    });
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, root)
}

async fn ask(port: u16, more: &str) -> reqwest::Response {
    let ambassador = Ambassador::start(&format!(
        "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\n\
         primary = {{ url = \"https://localhost:{port}\"{more} }}\n"
    ));
    client().get(ambassador.url("stock", "/")).send().await.unwrap()
}

#[tokio::test]
async fn an_upstream_is_trusted_by_the_roots_that_are_configured() {
    for (protocols, protocol, version) in
        [(&["http/1.1"][..], "http1", "HTTP/1.1"), (&["h2", "http/1.1"], "http2", "HTTP/2.0")]
    {
        let (address, root) = upstream(protocols).await;
        let port = address.port();
        let root = file("pem", &root);
        let trusted = format!(", protocol = \"{protocol}\", ca_file = \"{}\"", root.display());
        let answer = ask(port, &trusted).await;
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(version), "{text}");
        // The Web's roots have not signed it, and nothing is sent to a stranger.
        let answer = ask(port, "").await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["ambassador-refused"], "unreachable");
    }
}
