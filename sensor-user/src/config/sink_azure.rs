//! The keys of a `[[sink]]` of the kind `"azure"`.

use std::collections::BTreeMap;

use reqwest::Url;
use toml::de::DeValue;

use super::base_dirs::BaseDirs;
use super::reader::Section;
use super::remote::secret;
use super::values;
use crate::deliver::{AzureLogin, LogsIngestionConfig, ServerConfig};
use crate::intel::WorkspaceQuery;
use crate::schema::TABLES;

/// All of these keys.
pub(super) const KEYS: [&str; 10] = [
    "endpoint",
    "dcr",
    "alerts_stream",
    "streams",
    "cloud",
    "managed_identity",
    "tenant",
    "client_id",
    "client_secret",
    "login_url",
];

/// Word, what tokens are for, and who gives them.
const CLOUDS: [(&str, &str, &str); 3] = [
    ("public", "https://monitor.azure.com", WorkspaceQuery::LOGIN_URL),
    ("china", "https://monitor.azure.cn", "https://login.chinacloudapi.cn/"),
    ("government", "https://monitor.azure.us", "https://login.microsoftonline.us/"),
];

/// What they say.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    server: ServerConfig,
    place: BaseDirs<'_>,
) -> Option<LogsIngestionConfig> {
    let form = "the URL of the data collection endpoint, or of the rule itself";
    let endpoint = section.require("endpoint", form, values::http_url);
    let dcr = section.require("dcr", "the rule's immutable id, dcr-…", values::path_word);
    let alerts_stream = section.read("alerts_stream", values::path_word);
    let streams = section.read("streams", streams);
    let words = CLOUDS.map(|(word, ..)| word);
    let cloud = section.read("cloud", |value| values::word(&words, value));
    let (_, audience, login_url) = *CLOUDS.get(cloud.unwrap_or(0))?;
    let login = login(section, login_url, place);
    Some(LogsIngestionConfig {
        endpoint: endpoint?,
        dcr: dcr?,
        alerts_stream: alerts_stream
            .unwrap_or_else(|| LogsIngestionConfig::ALERTS_STREAM.to_owned()),
        streams: streams.unwrap_or_default(),
        audience: audience.to_owned(),
        login: login?,
        server,
    })
}

fn login(
    section: &mut Section<'_, '_>,
    login_url: &str,
    place: BaseDirs<'_>,
) -> Option<AzureLogin> {
    let managed = section.read("managed_identity", values::boolean).unwrap_or(false);
    if managed {
        for key in ["tenant", "client_secret", "login_url"] {
            section.refuse_here(key, "has no meaning with managed_identity; leave one of them out");
        }
        let client_id = section.read("client_id", values::text);
        return Some(AzureLogin::ManagedIdentity { imds_url: None, client_id });
    }
    let form = "the id or domain of the tenant, or set managed_identity = true";
    let tenant = section.require("tenant", form, values::path_word);
    let client_id = section.require("client_id", "the id of the application", values::text);
    let form = "{ file = \"/path\" } or { credential = \"NAME\" }";
    let client_secret = section.require("client_secret", form, |value| secret(value, place));
    let login_url: Option<Url> = match section.read("login_url", values::http_url) {
        Some(url) => Some(url),
        None => login_url.parse().ok(),
    };
    Some(AzureLogin::Application {
        login_url: login_url?,
        tenant: tenant?,
        client_id: client_id?,
        client_secret: client_secret?,
    })
}

/// Streams by the `Type` of what goes there.
fn streams(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, String> {
    let form = "a table such as { VMConnection = \"Custom-Connections_CL\" }";
    let table = value.as_table().ok_or_else(|| format!("is not a table; use {form}"))?;
    let mut names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    names.extend(["NetsensorLoss", "NetsensorHealth"]);
    let mut streams = BTreeMap::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if !names.contains(&name) {
            return Err(format!("{name:?} is no table; known are {}", names.join(", ")));
        }
        let stream =
            values::path_word(value.get_ref()).map_err(|what| format!("{name}: {what}"))?;
        streams.insert(name.to_owned(), stream);
    }
    Ok(streams)
}
