//! HTTPS: the feed's own certificate authority, client certificates, and no downgrade to HTTP.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sensor_tests::certificates;
use sensor_user::http::Certificate;
use sensor_user::intel::{Cursor, FeedKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Puller;

/// A TLS server that sends a fixed response to each accepted client.
struct Server {
    url: String,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(files: &Path, wants_certificate: bool, response: &'static str) -> Self {
        let provider = Arc::new(default_provider());
        let certificate = |name: &str| CertificateDer::from_pem_file(files.join(name)).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if wants_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate("ca")).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(files.join("server.key")).unwrap();
        let config = builder.with_single_cert(vec![certificate("server")], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/list", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The TLS handshake rejects other clients.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let _gone = stream.write_all(response.as_bytes()).await.is_err();
                let _gone = stream.shutdown().await.is_err();
            }
        });
        Self { url, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const LIST: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n203.0.113.5\n";

#[tokio::test]
async fn a_feeds_authority_is_trusted_for_that_feed_only() {
    let files = certificates();
    let server = Server::start(files.path(), false, LIST).await;
    let mut puller = Puller::new(FeedKind::List, &server.url);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(
        error.contains("no response; check the address, the network and the certificate"),
        "{error}"
    );
    puller.feed.access.ca_file = Some(files.path().join("ca"));
    assert_eq!(puller.new_from(&Cursor::Start).await.documents, ["203.0.113.5\n"]);
    // A changed file is read at the next pull; without it no authority is trusted.
    puller.feed.access.ca_file = Some(files.path().join("client"));
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("certificate"), "{error}");
    for (content, error_part) in
        [("no PEM", "contains no certificate"), ("", "contains no certificate")]
    {
        std::fs::write(files.path().join("ca"), content).unwrap();
        puller.feed.access.ca_file = Some(files.path().join("ca"));
        let error = puller.pull_error(&Cursor::Start).await;
        assert!(error.contains(error_part), "{content:?}: {error}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_accepted() {
    let files = certificates();
    let server = Server::start(files.path(), true, LIST).await;
    let mut puller = Puller::new(FeedKind::List, &server.url);
    puller.feed.access.ca_file = Some(files.path().join("ca"));
    puller.pull_error(&Cursor::Start).await;
    let (chain, key) = (files.path().join("client"), files.path().join("client.key"));
    puller.feed.access.certificate = Some(Certificate { chain: chain.clone(), key });
    assert_eq!(puller.new_from(&Cursor::Start).await.documents, ["203.0.113.5\n"]);
    puller.feed.access.certificate = Some(Certificate { key: chain.clone(), chain });
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("set up TLS"), "{error}");
}

#[tokio::test]
async fn redirects_from_https_to_http_are_refused() {
    let files = certificates();
    let response = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/list?k=hunter2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(files.path(), false, response).await;
    let mut puller = Puller::new(FeedKind::List, &server.url);
    puller.feed.access.ca_file = Some(files.path().join("ca"));
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(
        error.contains("redirects to http://127.0.0.1:9/list, which is not encrypted"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}
