//! The keys of a `[[sink]]` of kind `"azure"`.

use std::collections::BTreeMap;

use serde_json::json;

use super::form::{Form, boolean, choice, path_word, table, text};
use super::key::{KeyDefault, keys};
use super::location::{SECRET, http_url, secret};
use super::section::Section;
use super::sink_http::server;
use crate::deliver::{AzureLogin, LogsIngestionConfig};
use crate::http::Login;
use crate::intel::WorkspaceQuery;
use crate::schema::TABLES;

/// Endpoints of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cloud {
    /// Audience of the tokens.
    audience: &'static str,
    /// Token endpoint.
    login_url: &'static str,
}

const PUBLIC: Cloud =
    Cloud { audience: "https://monitor.azure.com", login_url: WorkspaceQuery::LOGIN_URL };
const CHINA: Cloud =
    Cloud { audience: "https://monitor.azure.cn", login_url: "https://login.chinacloudapi.cn/" };
const GOVERNMENT: Cloud =
    Cloud { audience: "https://monitor.azure.us", login_url: "https://login.microsoftonline.us/" };

const WITHOUT_IDENTITY: KeyDefault = KeyDefault::RequiredWithout { without: "managed_identity" };

pub(super) fn azure(section: &mut Section<'_, '_>) -> Option<LogsIngestionConfig> {
    let clouds = [("public", PUBLIC), ("china", CHINA), ("government", GOVERNMENT)];
    let endpoint_form = "the URL of the data collection endpoint, or of the rule itself";
    let tenant_form = "the id or domain of the tenant, or set managed_identity = true";
    keys! { section, "sink azure", RELOAD;
        /// The logs ingestion endpoint of the data collection rule, or a data collection
        /// endpoint.
        endpoint: http_url() => required(endpoint_form);
        /// Immutable id of the rule.
        dcr: path_word() => required("the rule's immutable id, dcr-…");
        /// Stream of the rule for alerts.
        alerts_stream: path_word() => default(LogsIngestionConfig::ALERTS_STREAM.to_owned());
        /// Streams for rows and health lines, by `Type` (`VMConnection`, `VMBoundPort`,
        /// `VMProcess`, `VMComputer`, `NetsensorLoss`, `NetsensorHealth`); otherwise
        /// `Custom-<Type>_CL`.
        streams: streams() => optional("`{}`");
        /// Azure cloud: sets the audience of the tokens and the token endpoint.
        cloud: choice(&clouds) => default(PUBLIC);
        /// Tokens come from the machine's metadata service (at `azure.imds_url`, if it is
        /// set), never through a proxy.
        managed_identity: boolean() => default(false);
        /// Id or domain of the tenant.
        tenant: path_word() => required_if(WITHOUT_IDENTITY, tenant_form);
        /// Id of the client application; with `managed_identity`, selects one of several
        /// identities.
        client_id: text() => required_if(WITHOUT_IDENTITY, "the id of the application");
        /// Secret of the application.
        client_secret: secret() => required_if(WITHOUT_IDENTITY, SECRET);
        /// Token endpoint.
        login_url: http_url() => optional("that of the cloud");
    }
    let server = server(section, Login::None, true);
    let login = if managed_identity {
        let problem = "has no meaning with managed_identity; leave one of them out";
        section.refuse(&["tenant", "client_secret", "login_url"], problem);
        AzureLogin::ManagedIdentity { imds_url: None, client_id }
    } else {
        AzureLogin::Application {
            login_url: login_url.or_else(|| cloud.login_url.parse().ok())?,
            tenant: tenant?,
            client_id: client_id?,
            client_secret: client_secret?,
        }
    };
    Some(LogsIngestionConfig {
        endpoint: endpoint?,
        dcr: dcr?,
        alerts_stream,
        streams: streams.unwrap_or_default(),
        audience: cloud.audience.to_owned(),
        login,
        server,
    })
}

/// Streams by the `Type` of their items.
fn streams() -> Form<BTreeMap<String, String>> {
    let mut names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    names.extend(["NetsensorLoss", "NetsensorHealth"]);
    let schema = json!({
        "type": "object",
        "propertyNames": { "enum": names },
        "additionalProperties": path_word().schema,
    });
    let accepts = "a table such as { VMConnection = \"Custom-Connections_CL\" }";
    table(accepts, schema, move |name, value, dirs| {
        if !names.contains(&name) {
            return Err(format!("{name:?} is no table; known are {}", names.join(", ")));
        }
        path_word().parse_one(value, dirs).map_err(|problem| format!("{name}: {problem}"))
    })
}
