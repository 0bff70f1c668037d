//! `ConnectionRow`: one row of Microsoft's `VMConnection`.
//!
//! Columns are Microsoft's, with type and meaning as documented there, followed by extension columns.
//! Their names are a contract. Absent text is "", an absent number null.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Table, row};

row! {
    /// One `VMConnection` row. Counts are deltas of the minute, `LinksLive` is the gauge at its end.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct ConnectionRow {
        /// Start of the minute, UTC.
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
        process_name: String = "ProcessName",
        /// Stable hash of the group key and the minute.
        connection_id: String = "ConnectionId",
        /// `inbound` or `outbound`.
        direction: String = "Direction",
        /// `tcp` or `udp`.
        protocol: String = "Protocol",
        /// Address of the end that opened the connection.
        source_ip: String = "SourceIp",
        /// Address of the end that accepted the connection.
        destination_ip: String = "DestinationIp",
        /// Port of the end that accepted the connection.
        destination_port: u16 = "DestinationPort",
        /// Address of the remote end.
        remote_ip: String = "RemoteIp",
        /// Connections established in the minute.
        links_established: u64 = "LinksEstablished",
        /// Connections closed in the minute.
        links_terminated: u64 = "LinksTerminated",
        /// Connection attempts that failed in the minute.
        links_failed: u64 = "LinksFailed",
        /// Connections open at the end of the minute.
        links_live: u64 = "LinksLive",
        /// Payload bytes sent in the minute.
        bytes_sent: u64 = "BytesSent",
        /// Payload bytes received in the minute.
        bytes_received: u64 = "BytesReceived",
        /// Responses in the minute; null if there was none.
        responses: Option<u64> = "Responses",
        /// Shortest response time, milliseconds.
        response_time_min: Option<u64> = "ResponseTimeMin",
        /// Longest response time, milliseconds.
        response_time_max: Option<u64> = "ResponseTimeMax",
        /// Sum of all response times, milliseconds.
        response_time_sum: Option<u64> = "ResponseTimeSum",
        /// JSON array as text: names that this host queried and that resolved to the remote address.
        remote_dns_questions: String = "RemoteDnsQuestions",
        /// JSON array as text: canonical names of the remote address in DNS responses.
        remote_dns_canonical_names: String = "RemoteDnsCanonicalNames",
        /// Classification of the remote end.
        remote_classification: String = "RemoteClassification",
        /// English name of the country of the remote address.
        remote_country: String = "RemoteCountry",
        /// Latitude of the remote address, degrees.
        remote_latitude: Option<f64> = "RemoteLatitude",
        /// Longitude of the remote address, degrees.
        remote_longitude: Option<f64> = "RemoteLongitude",
        /// Remote address if an indicator covers it, else "".
        malicious_ip: String = "MaliciousIp",
        /// Threat type of that indicator.
        indicator_threat_type: String = "IndicatorThreatType",
        /// Description of that indicator.
        description: String = "Description",
        /// TLP level of that indicator: `White`, `Green`, `Amber` or `Red`.
        tlp_level: String = "TLPLevel",
        /// Confidence of that indicator: "0" to "100", as text.
        confidence: String = "Confidence",
        /// Severity of that indicator: 0 to 5.
        severity: Option<i32> = "Severity",
        /// Time of the first report of that indicator, RFC 3339, as text.
        first_reported_date_time: String = "FirstReportedDateTime",
        /// Time of the last report of that indicator, RFC 3339, as text.
        last_reported_date_time: String = "LastReportedDateTime",
        /// `True` or `False`, as text: whether that indicator is active.
        is_active: String = "IsActive",
        /// Link to a report about that indicator.
        report_reference_link: String = "ReportReferenceLink",
        /// Further information of that indicator's source.
        additional_information: String = "AdditionalInformation",
        /// Always `netsensor`.
        source_system: String = "SourceSystem",
        /// Always `VMConnection`.
        r#type: String = "Type",
        /// Azure resource id of the host.
        resource_id: String = "_ResourceId",
        /// Azure subscription of the host.
        subscription_id: String = "_SubscriptionId",
        /// Always null; the billing service sets it.
        billed_size: Option<f64> = "_BilledSize",
        /// Always ""; the billing service sets it.
        is_billable: String = "_IsBillable",
        /// Process id of a process of the group key, the latest seen.
        process_id: Option<u32> = extension "ProcessId",
        /// Absolute path of the executable.
        process_path: String = extension "ProcessPath",
        /// Arguments of that process.
        command_line: String = extension "CommandLine",
        /// User of that process.
        user_name: String = extension "UserName",
        /// File name of the executable of that process's parent.
        parent_process_name: String = extension "ParentProcessName",
        /// Container id of that process.
        container_id: String = extension "ContainerId",
        /// Smallest smoothed round-trip time in the minute, microseconds.
        rtt_min_us: Option<u32> = extension "RttMinUs",
        /// Largest smoothed round-trip time in the minute, microseconds.
        rtt_max_us: Option<u32> = extension "RttMaxUs",
    }
}

impl ConnectionRow {
    /// Table `VMConnection`: one row a minute and group key.
    pub const TABLE: Table = Table { name: "VMConnection", columns: &Self::COLUMNS };
}
