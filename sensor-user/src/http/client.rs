//! HTTP clients: one a feed or sink, made at its first request and again when its certificates or
//! the way to its server change.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy};
use sha2::{Digest as _, Sha256};

use super::access::{Material, Proxy};
use super::error::AccessError;

/// How a client keeps its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// How long an answer may stand still.
    pub(crate) stall: Duration,
    /// How long a connection is kept that is not used.
    pub(crate) idle: Duration,
    /// How many such are kept.
    pub(crate) idle_most: usize,
}

/// A client, and by what it was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    client: Client,
    by: [u8; 32],
}

impl Made {
    /// The client at hand where it is still right, else a new one.
    pub(crate) fn renewed(
        old: Option<&Self>,
        proxy: &Proxy,
        tuning: Tuning,
        material: &Material,
    ) -> Result<Self, AccessError> {
        let by = fingerprint(proxy, material);
        match old {
            Some(old) if old.by == by => Ok(old.clone()),
            _ => Ok(Self {
                client: client(proxy, tuning, material).map_err(AccessError::Client)?,
                by,
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

fn client(proxy: &Proxy, tuning: Tuning, material: &Material) -> reqwest::Result<Client> {
    super::crypto_provider::install_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(tuning.idle_most)
        .pool_idle_timeout(tuning.idle)
        .read_timeout(tuning.stall)
        // Feeds follow them by `Session`, which knows what must not go where; sinks do not.
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
