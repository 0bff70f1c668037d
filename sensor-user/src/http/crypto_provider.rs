//! The one TLS stack of the process: rustls on ring.

use std::sync::OnceLock;

static PROVIDER: OnceLock<()> = OnceLock::new();

/// Installs ring as the crypto provider of the process; later calls do nothing.
///
/// Must run before the first `reqwest::Client` is built. A provider that was installed before stays.
pub fn install_provider() {
    PROVIDER.get_or_init(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed before");
        }
    });
}
