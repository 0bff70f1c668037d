//! Presets: the formats of known lists, as their publishers and those who read them describe them.

use super::format::{Columns, Field, ListFormat, Shape};

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

/// The format of a known list; `None` for a name that is not in [`NAMES`].
pub fn preset(name: &str) -> Option<ListFormat> {
    let format = match name {
        "feodo" => feodo(Shape::Json),
        "feodo-csv" => feodo(Shape::Csv),
        "feodo-txt" => {
            plain("C2", "Botnet C2 server (Feodo Tracker)", "https://feodotracker.abuse.ch/")
        }
        "threatfox" => threatfox(Shape::Json),
        "threatfox-csv" => threatfox(Shape::Csv),
        "sslbl" => ListFormat {
            shape: Shape::Csv,
            columns: Columns::named(&[
                (Field::Address, &["DstIP"]),
                (Field::Port, &["DstPort"]),
                (Field::FirstSeen, &["Firstseen"]),
            ]),
            ..plain(
                "C2",
                "Botnet C2 server with a known certificate (SSLBL)",
                "https://sslbl.abuse.ch/",
            )
        },
        "spamhaus-drop" => ListFormat {
            shape: Shape::JsonLines,
            columns: Columns::named(&[
                (Field::Address, &["cidr"]),
                (Field::Url, &["sblid"]),
                (Field::Tags, &["sblid"]),
                // Of the last line, "metadata".
                (Field::Kind, &["type"]),
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
            shape: Shape::Csv,
            separator: Some('\t'),
            columns: Columns::named(&[(Field::Address, &["1"]), (Field::PrefixLen, &["3"])]),
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
fn feodo(shape: Shape) -> ListFormat {
    ListFormat {
        shape,
        columns: Columns::named(&[
            (Field::Address, &["ip_address", "dst_ip"]),
            (Field::Port, &["port", "dst_port"]),
            (Field::Description, &["malware"]),
            (Field::FirstSeen, &["first_seen", "first_seen_utc"]),
            (Field::LastSeen, &["last_online"]),
            (Field::Tags, &["status", "c2_status"]),
            (Field::Url, &["ip_address", "dst_ip"]),
        ]),
        ..plain(
            "C2",
            "Botnet C2 server (Feodo Tracker)",
            "https://feodotracker.abuse.ch/browse/host/{}/",
        )
    }
}

/// The reply of the API, the JSON export (an object of arrays by id) and the CSV export.
fn threatfox(shape: Shape) -> ListFormat {
    ListFormat {
        shape,
        columns: Columns::named(&[
            (Field::Address, &["ioc", "ioc_value"]),
            (Field::ThreatType, &["threat_type"]),
            (Field::Description, &["malware_printable", "fk_malware", "malware"]),
            (Field::Confidence, &["confidence_level"]),
            (Field::FirstSeen, &["first_seen", "first_seen_utc"]),
            (Field::LastSeen, &["last_seen", "last_seen_utc"]),
            (Field::Tags, &["tags"]),
            (Field::Url, &["id", "ioc_id"]),
            (Field::Id, &["id", "ioc_id"]),
            (Field::Kind, &["ioc_type"]),
        ]),
        kinds: vec!["ip:port".to_owned()],
        is_key_id: true,
        ..plain("", "", "https://threatfox.abuse.ch/ioc/{}/")
    }
}

/// Pulses of the OTX `subscribed` reply, with their indicators; or the indicators of one pulse.
fn otx() -> ListFormat {
    ListFormat {
        shape: Shape::Json,
        columns: Columns::named(&[
            (Field::Address, &["indicator"]),
            (Field::Description, &["title", "description"]),
            (Field::FirstSeen, &["created"]),
            (Field::Expires, &["expiration"]),
            (Field::Id, &["_id", "id"]),
            (Field::Kind, &["type"]),
        ]),
        outer: Columns::named(&[
            (Field::Description, &["name"]),
            (Field::Url, &["id"]),
            (Field::Tlp, &["TLP", "tlp"]),
            (Field::Tags, &["tags"]),
        ]),
        kinds: ["IPv4", "IPv6", "CIDR"].map(str::to_owned).to_vec(),
        ..plain("", "", "https://otx.alienvault.com/pulse/{}")
    }
}
