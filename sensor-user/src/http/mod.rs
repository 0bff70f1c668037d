//! Web: how a server is reached over HTTP: who asks, by which certificates, over which proxy. Feeds
//! and sinks have the same keys for it.
//!
//! Secrets are named in what is configured, and read when they are needed: one that is changed
//! counts without a new start. None is in a message, in `Debug` or in a log.

pub mod crypto_provider;

mod access;
mod client;
mod error;
mod oauth;
mod reloading_client;
mod secret;
mod tls;

pub use access::{Access, Certificate, HeaderText, Login, Proxy, TOKEN_HEADER, is_header_name};
pub use error::AccessError;
pub use secret::{Secret, SecretError};
pub use tls::TlsConfig;

pub(crate) use access::Material;
pub(crate) use client::{Made, Tuning};
pub(crate) use oauth::{FORM, Grant, form, token_url};
pub(crate) use reloading_client::Reach;

use reqwest::Url;

use crate::base::escape::escaped;

/// A URL for people, without its query, which may hold a secret.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    escaped(&format!("{}://{host}{port}{}", url.scheme(), url.path()), 200)
}

/// Whether what is sent to `url` can be read on its way.
pub(crate) fn crosses_a_network_bare(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !is_here
}
