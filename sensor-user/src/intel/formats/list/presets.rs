//! Presets: the formats of known lists, as documented by their publishers and consumers.

use super::format::{ListColumns, ListField, ListFormat, ListShape};

/// Names of all presets.
pub const NAMES: [&str; 12] = [
    "feodo",
    "feodo-csv",
    "feodo-txt",
    "threatfox",
    "threatfox-csv",
    "sslbl",
    "spamhaus-drop",
    "spamhaus-drop-txt",
    "firehol",
    "emerging-threats",
    "dshield",
    "otx",
];

/// Returns the format of a known list; `None` for a name that is not in [`NAMES`].
pub fn preset(name: &str) -> Option<ListFormat> {
    let format = match name {
        "feodo" => feodo(ListShape::Json),
        "feodo-csv" => feodo(ListShape::Csv),
        "feodo-txt" => {
            plain("C2", "Botnet C2 server (Feodo Tracker)", "https://feodotracker.abuse.ch/")
        }
        "threatfox" => threatfox(ListShape::Json),
        "threatfox-csv" => threatfox(ListShape::Csv),
        "sslbl" => ListFormat {
            shape: ListShape::Csv,
            columns: ListColumns::from_names(&[
                (ListField::Address, &["DstIP"]),
                (ListField::Port, &["DstPort"]),
                (ListField::FirstSeen, &["Firstseen"]),
            ]),
            ..plain(
                "C2",
                "Botnet C2 server with a known certificate (SSLBL)",
                "https://sslbl.abuse.ch/",
            )
        },
        "spamhaus-drop" => ListFormat {
            shape: ListShape::JsonLines,
            columns: ListColumns::from_names(&[
                (ListField::Address, &["cidr"]),
                (ListField::Url, &["sblid"]),
                (ListField::Tags, &["sblid"]),
                // The last line of the list has the type "metadata".
                (ListField::Kind, &["type"]),
            ]),
            kinds: vec!["network".to_owned()],
            ..plain(
                "Malicious",
                "Network to drop (Spamhaus DROP)",
                "https://check.spamhaus.org/sbl/query/{}",
            )
        },
        "spamhaus-drop-txt" => {
            plain("Malicious", "Network to drop (Spamhaus DROP)", "https://www.spamhaus.org/drop/")
        }
        "firehol" => plain("Malicious", "Listed by FireHOL", "https://iplists.firehol.org/"),
        "emerging-threats" => plain(
            "Compromised",
            "Compromised or hostile host (Emerging Threats)",
            "https://rules.emergingthreats.net/",
        ),
        "dshield" => ListFormat {
            shape: ListShape::Csv,
            separator: Some('\t'),
            columns: ListColumns::from_names(&[
                (ListField::Address, &["1"]),
                (ListField::PrefixLen, &["3"]),
            ]),
            ..plain(
                "Scanner",
                "Network that attacks most (DShield)",
                "https://www.dshield.org/block.txt",
            )
        },
        "otx" => otx(),
        _ => return None,
    };
    Some(format)
}

fn plain(threat_type: &str, description: &str, url: &str) -> ListFormat {
    ListFormat {
        threat_type: threat_type.to_owned(),
        description: description.to_owned(),
        url: url.to_owned(),
        ..ListFormat::default()
    }
}

/// JSON `ip_address, port, status, first_seen, last_online, malware`; CSV
/// `first_seen_utc, dst_ip, dst_port, c2_status, last_online, malware`.
fn feodo(shape: ListShape) -> ListFormat {
    ListFormat {
        shape,
        columns: ListColumns::from_names(&[
            (ListField::Address, &["ip_address", "dst_ip"]),
            (ListField::Port, &["port", "dst_port"]),
            (ListField::Description, &["malware"]),
            (ListField::FirstSeen, &["first_seen", "first_seen_utc"]),
            (ListField::LastSeen, &["last_online"]),
            (ListField::Tags, &["status", "c2_status"]),
            (ListField::Url, &["ip_address", "dst_ip"]),
        ]),
        ..plain(
            "C2",
            "Botnet C2 server (Feodo Tracker)",
            "https://feodotracker.abuse.ch/browse/host/{}/",
        )
    }
}

/// The API's response, the JSON export (an object of arrays by id) and the CSV export.
fn threatfox(shape: ListShape) -> ListFormat {
    ListFormat {
        shape,
        columns: ListColumns::from_names(&[
            (ListField::Address, &["ioc", "ioc_value"]),
            (ListField::ThreatType, &["threat_type"]),
            (ListField::Description, &["malware_printable", "fk_malware", "malware"]),
            (ListField::Confidence, &["confidence_level"]),
            (ListField::FirstSeen, &["first_seen", "first_seen_utc"]),
            (ListField::LastSeen, &["last_seen", "last_seen_utc"]),
            (ListField::Tags, &["tags"]),
            (ListField::Url, &["id", "ioc_id"]),
            (ListField::Id, &["id", "ioc_id"]),
            (ListField::Kind, &["ioc_type"]),
        ]),
        kinds: vec!["ip:port".to_owned()],
        is_key_id: true,
        ..plain("", "", "https://threatfox.abuse.ch/ioc/{}/")
    }
}

/// Pulses of the OTX response to `subscribed`, with their indicators; or the indicators of one
/// pulse.
fn otx() -> ListFormat {
    ListFormat {
        shape: ListShape::Json,
        columns: ListColumns::from_names(&[
            (ListField::Address, &["indicator"]),
            (ListField::Description, &["title", "description"]),
            (ListField::FirstSeen, &["created"]),
            (ListField::Expires, &["expiration"]),
            (ListField::Id, &["_id", "id"]),
            (ListField::Kind, &["type"]),
        ]),
        outer: ListColumns::from_names(&[
            (ListField::Description, &["name"]),
            (ListField::Url, &["id"]),
            (ListField::Tlp, &["TLP", "tlp"]),
            (ListField::Tags, &["tags"]),
        ]),
        kinds: ["IPv4", "IPv6", "CIDR"].map(str::to_owned).to_vec(),
        ..plain("", "", "https://otx.alienvault.com/pulse/{}")
    }
}
