//! HTTP clients: one for each feed or sink, created at its first request, and again when its
//! certificates or its proxy change.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy};
use sha2::{Digest as _, Sha256};

use super::access::{Material, Proxy};
use super::error::AccessError;

/// Connection settings of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionSettings {
    /// Maximum time between two reads of a response.
    pub(crate) read_timeout: Duration,
    /// Time after which an idle connection is closed.
    pub(crate) idle_timeout: Duration,
    /// Maximum number of idle connections.
    pub(crate) idle_max: usize,
}

/// A client, and a fingerprint of the settings that it was created with.
#[derive(Debug, Clone)]
pub(crate) struct CachedClient {
    client: Client,
    fingerprint: [u8; 32],
}

impl CachedClient {
    /// The old client if its settings are unchanged, else a new one.
    pub(crate) fn renewed(
        old: Option<&Self>,
        proxy: &Proxy,
        settings: ConnectionSettings,
        material: &Material,
    ) -> Result<Self, AccessError> {
        let fingerprint = fingerprint(proxy, material);
        match old {
            Some(old) if old.fingerprint == fingerprint => Ok(old.clone()),
            _ => Ok(Self {
                client: client(proxy, settings, material).map_err(AccessError::Client)?,
                fingerprint,
            }),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

fn fingerprint(proxy: &Proxy, material: &Material) -> [u8; 32] {
    let mut digest = Sha256::new();
    let password = material.proxy_password.as_ref().map(|it| it.text().as_bytes());
    let files = [material.identity.as_deref(), material.authorities.as_deref(), password];
    for part in files {
        digest.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        digest.update(part.unwrap_or_default());
    }
    digest.update(format!("{proxy:?}"));
    digest.finalize().into()
}

fn client(
    proxy: &Proxy,
    settings: ConnectionSettings,
    material: &Material,
) -> reqwest::Result<Client> {
    super::crypto_provider::install_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(settings.idle_max)
        .pool_idle_timeout(settings.idle_timeout)
        .read_timeout(settings.read_timeout)
        // Feeds follow redirects in `Session`, which drops credentials on another origin; sinks do not
        // follow any.
        .redirect(Policy::none());
    if let Some(pem) = &material.authorities {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem)?);
    }
    if let Some(pem) = &material.identity {
        builder = builder.identity(Identity::from_pem(pem)?);
    }
    builder = match proxy {
        Proxy::Environment => builder,
        Proxy::None => builder.no_proxy(),
        Proxy::Url { url, login } => {
            let mut proxy = reqwest::Proxy::all(url.clone())?.no_proxy(NoProxy::from_env());
            if let (Some((user, _)), Some(password)) = (login, &material.proxy_password) {
                proxy = proxy.basic_auth(user, password.text());
            }
            builder.proxy(proxy)
        }
    };
    builder.build()
}
