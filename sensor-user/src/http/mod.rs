//! HTTP clients for feeds and sinks: credentials, certificates, proxy. Feeds and sinks have the same
//! configuration keys for these.
//!
//! The configuration refers to secrets; they are read when they are needed, so that a changed secret
//! takes effect without a restart. No secret is in a message, in `Debug` text or in a log.

pub mod crypto_provider;

mod access;
mod client;
mod error;
mod oauth;
mod reloading_client;
mod secret;
mod tls;

pub use access::{
    Access, Certificate, HeaderText, Login, Proxy, TOKEN_HEADER, is_header_name, is_header_value,
};
pub use error::AccessError;
pub use secret::{Secret, SecretError};
pub use tls::TlsConfig;

pub(crate) use access::Material;
pub(crate) use client::{CachedClient, ConnectionSettings};
pub(crate) use oauth::{AccessToken, FORM, form, token_url};
pub(crate) use reloading_client::ReloadingClient;

use reqwest::Url;

use crate::base::escape::escaped;

/// A URL for messages, without its query, which may contain a secret.
pub(crate) fn redacted_url(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    escaped(&format!("{}://{host}{port}{}", url.scheme(), url.path()), 200)
}

/// True if requests to `url` cross a network without encryption.
pub(crate) fn is_sent_unencrypted(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !is_local
}
