//! `[metrics]`: where metrics are told, which is nowhere but on this host.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::reader::Section;
use super::values;
use crate::telemetry::metrics::{Listen, MetricsConfig};

const FORM: &str = "\"unix:/path\" or a loopback address such as \"127.0.0.1:9477\"";

/// `[metrics]`; `None` where nothing listens.
pub(super) fn metrics(mut section: Section<'_, '_>) -> Option<MetricsConfig> {
    let listen = section.read("listen", listen);
    let group = section.read("group", values::text);
    if group.is_some() && !matches!(listen, Some(Listen::Unix(_))) {
        section.note("group", "has no meaning but for a unix socket in metrics.listen");
    }
    section.finish();
    listen.map(|listen| MetricsConfig { listen, group })
}

fn listen(value: &DeValue<'_>) -> Result<Listen, String> {
    let text = values::text(value).map_err(|what| format!("{what}: {FORM}"))?;
    if let Some(path) = text.strip_prefix("unix:") {
        return values::socket_path_of_text(path).map(Listen::Unix);
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_not_an_address| format!("{text:?} is no address with a port; use {FORM}"))?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(format!(
            "{text:?} is not a loopback address, and metrics are told without encryption to whoever \
             asks; use {FORM}, and a proxy that asks for a certificate where others are to reach it"
        ));
    }
    if address.port() == 0 {
        return Err(format!("{text:?} has no port; use {FORM}"));
    }
    Ok(Listen::Loopback(address))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::base::environment::Environment;
    use crate::config::Config;
    use crate::telemetry::metrics::Listen;

    fn read(text: &str) -> Result<Config, String> {
        let environment = Environment { home: Some("/h".into()), ..Environment::default() };
        let parsed = Config::parse(text, Path::new("/etc/n.toml"), &environment);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn metrics_stay_on_this_host() {
        assert_eq!(read("").unwrap().metrics, None);
        let config = read("[metrics]\nlisten = \"unix:/run/n/m.sock\"\ngroup = \"prometheus\"\n");
        let metrics = config.unwrap().metrics.unwrap();
        assert_eq!(metrics.listen, Listen::Unix("/run/n/m.sock".into()));
        assert_eq!(metrics.group.as_deref(), Some("prometheus"));
        for loopback in ["127.0.0.1:9477", "127.9.9.9:1", "[::1]:9477", "[::ffff:127.0.0.1]:9"] {
            let config = read(&format!("[metrics]\nlisten = \"{loopback}\"\n")).unwrap();
            let listen = Listen::Loopback(loopback.parse().unwrap());
            assert_eq!(config.metrics.unwrap().listen, listen);
        }
        for (listen, why) in [
            ("0.0.0.0:9477", "is not a loopback address, and metrics are told without encryption"),
            ("[::]:9477", "is not a loopback address"),
            ("192.0.2.1:9477", "is not a loopback address"),
            ("127.0.0.1:0", "has no port"),
            ("127.0.0.1", "is no address with a port"),
            ("localhost:9477", "is no address with a port"),
            ("unix:m.sock", "is not absolute"),
        ] {
            let error = read(&format!("[metrics]\nlisten = \"{listen}\"\n")).unwrap_err();
            assert!(error.starts_with("/etc/n.toml:2: metrics.listen: "), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let error = read("[metrics]\nlisten = \"127.0.0.1:1\"\ngroup = \"a\"\n").unwrap_err();
        assert!(error.contains("metrics.group: has no meaning"), "{error}");
    }
}
