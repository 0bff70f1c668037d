//! The one TLS stack of the process: rustls on ring.

use std::sync::OnceLock;

static PROVIDER: OnceLock<()> = OnceLock::new();

/// Makes ring the process's crypto provider; calls after the first do nothing.
///
/// Must run before the first `reqwest::Client` is built. A provider that something else installed
/// earlier stays.
pub fn install_provider() {
    PROVIDER.get_or_init(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed before");
        }
    });
}
