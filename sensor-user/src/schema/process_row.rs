//! `ProcessRow`: one row of Microsoft's `VMProcess`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Table, row};
use crate::base::stable_id::stable_id;

row! {
    /// One executable that had TCP connections. The columns of a process are those of its first
    /// process that connected or accepted, the one that started first. Absent text is "".
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct ProcessRow {
        /// Start of the minute of its first connection, or the full hour, UTC.
        time_generated: Timestamp = "TimeGenerated",
        /// Full name of the host.
        computer: String = "Computer",
        /// UUID of the agent.
        agent_id: String = "AgentId",
        /// `m-` and the agent's UUID.
        machine: String = "Machine",
        /// `p-` and a stable hash of the machine and the executable.
        process: String = "Process",
        /// File name of the executable.
        executable_name: String = "ExecutableName",
        /// Absolute path of the executable.
        executable_path: String = "ExecutablePath",
        /// Arguments of the first process.
        command_line: String = "CommandLine",
        /// Working directory of the first process, if it still runs.
        working_directory: String = "WorkingDirectory",
        /// Same as `ExecutableName`.
        display_name: String = "DisplayName",
        /// `webserver`, `appServer`, `databaseServer`, `ldapServer` or `smbServer` for a known server that
        /// listens on a port of that service; else "".
        role: String = "Role",
        /// Group of related products; always "" here.
        group: String = "Group",
        /// Start time of the first process.
        start_time: Option<Timestamp> = "StartTime",
        /// Process id of the first process.
        first_pid: Option<u32> = "FirstPid",
        /// Description in a Windows executable; "" here.
        description: String = "Description",
        /// Company in a Windows executable; "" here.
        company_name: String = "CompanyName",
        /// Internal name in a Windows executable; "" here.
        internal_name: String = "InternalName",
        /// Product name in a Windows executable; "" here.
        product_name: String = "ProductName",
        /// Product version in a Windows executable; "" here.
        product_version: String = "ProductVersion",
        /// File version of a Windows executable; "" here.
        file_version: String = "FileVersion",
        /// Windows services in the process; empty here.
        services: Vec<String> = "Services",
        /// User of the first process.
        user_name: String = "UserName",
        /// Domain of a Windows user; "" here.
        user_domain: String = "UserDomain",
        /// Always `netsensor`.
        source_system: String = "SourceSystem",
        /// Always `VMProcess`.
        r#type: String = "Type",
        /// Azure resource id of the host.
        resource_id: String = "_ResourceId",
        /// Azure subscription of the host.
        subscription_id: String = "_SubscriptionId",
        /// Always null; the billing service sets it.
        billed_size: Option<f64> = "_BilledSize",
        /// Always ""; the billing service sets it.
        is_billable: String = "_IsBillable",
        /// Container id of the first process.
        container_id: String = extension "ContainerId",
    }
}

impl ProcessRow {
    /// Table `VMProcess`: one row an hour and executable with TCP connections.
    pub const TABLE: Table = Table { name: "VMProcess", columns: &Self::COLUMNS };

    /// Returns the row's stable id: equal for the same row, wherever and however often it is sent.
    pub fn id(&self) -> String {
        stable_id(&[&self.machine, &self.r#type, &self.process, &self.time_generated.to_string()])
    }
}
