//! `ProcessRow`: one row of Microsoft's `VMProcess`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::stable_id::stable_id;

/// One executable that had TCP connections. Its process (of several: the one that began first, of
/// those that connected or accepted) gives the columns of a process. Text that is absent is "".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessRow {
    /// Start of the minute in which it first connected, or the full hour, UTC.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID.
    pub agent_id: String,
    /// `m-` and the agent's UUID.
    pub machine: String,
    /// `p-` and a stable hash of the machine and the executable.
    pub process: String,
    /// File name of the executable.
    pub executable_name: String,
    /// Absolute path of the executable.
    pub executable_path: String,
    /// Arguments of the first process.
    pub command_line: String,
    /// Folder that it works in, if it still runs.
    pub working_directory: String,
    /// Same as `ExecutableName`.
    pub display_name: String,
    /// `webserver`, `appServer`, `databaseServer`, `ldapServer` or `smbServer`: a known server that
    /// listens on a port of that service; else "".
    pub role: String,
    /// Of related products; nothing tells it here.
    pub group: String,
    /// When the first process began.
    pub start_time: Option<Timestamp>,
    /// Its id.
    pub first_pid: Option<u32>,
    /// Of a Windows executable: "" here.
    pub description: String,
    /// Of a Windows executable: "" here.
    pub company_name: String,
    /// Of a Windows executable: "" here.
    pub internal_name: String,
    /// Of a Windows executable: "" here.
    pub product_name: String,
    /// Of a Windows executable: "" here.
    pub product_version: String,
    /// Of a Windows executable: "" here.
    pub file_version: String,
    /// Windows services in it: none here.
    pub services: Vec<String>,
    /// User of the first process.
    pub user_name: String,
    /// Of a Windows user: "" here.
    pub user_domain: String,
    /// The kind of agent that reports.
    pub source_system: String,
    /// Always `VMProcess`.
    pub r#type: String,
    /// Resource of the host in Azure.
    #[serde(rename = "_ResourceId")]
    pub resource_id: String,
    /// Its subscription.
    #[serde(rename = "_SubscriptionId")]
    pub subscription_id: String,
    /// For the service that bills the row to fill in.
    #[serde(rename = "_BilledSize")]
    pub billed_size: Option<f64>,
    /// For the service that bills the row to fill in.
    #[serde(rename = "_IsBillable")]
    pub is_billable: String,
    /// Extension: container id of the first process.
    pub container_id: String,
}

impl ProcessRow {
    /// The `Type` column.
    pub const TYPE: &str = "VMProcess";

    /// Stable: the same row has the same id wherever and however often it is sent.
    pub fn id(&self) -> String {
        stable_id(&[&self.machine, &self.r#type, &self.process, &self.time_generated.to_string()])
    }
}
