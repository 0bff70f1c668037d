//! Reference implementation of the rule, for comparison with `replay --at`. It is simple and slow:
//! it compares every row with every indicator. It shares no code with the agent, not even for
//! addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Time relative to the instant at which the rule runs, in ticks of 100 ns (as in KQL).
pub type Ticks = i64;

/// Number of ticks in a minute.
pub const MINUTE: Ticks = 600_000_000;

/// Row of the table `ThreatIntelligenceIndicator`.
#[derive(Debug, Clone)]
pub struct IndicatorRow {
    /// Column `IndicatorId`.
    pub id: String,
    /// Name of the file that contains the row.
    pub feed: String,
    /// Column `TimeGenerated`.
    pub time: Ticks,
    /// Column `ExpirationDateTime`.
    pub expires: Option<Ticks>,
    /// Column `Active`.
    pub active: Option<bool>,
    /// Column `IsDeleted`.
    pub deleted: bool,
    /// Column `Revoked`.
    pub revoked: bool,
    /// Columns `NetworkIP`, `NetworkDestinationIP`, `NetworkSourceIP`, `EmailSourceIpAddress` and
    /// `NetworkCidrBlock`.
    pub entities: [String; 5],
}

/// Row of the table `VMConnection`, or event of a recording.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// Column `TimeGenerated`.
    pub time: Ticks,
    /// Column `RemoteIp`.
    pub remote: String,
    /// Column `Computer`, which identifies the row in the tests.
    pub computer: String,
    /// Column `Event` of a recording.
    pub event: Option<String>,
    /// Column `LinksEstablished`.
    pub established: u64,
    /// Column `LinksFailed`.
    pub failed: u64,
    /// Column `BytesSent`.
    pub sent: u64,
    /// Column `BytesReceived`.
    pub received: u64,
}

/// Fields of an alert that follow from the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedAlert {
    /// Field `IndicatorId`.
    pub id: String,
    /// Field `RemoteIp`.
    pub remote: String,
    /// Field `Feed`.
    pub feed: String,
    /// Field `TI_ipEntity`.
    pub entity: String,
    /// Field `Computer` of the latest row.
    pub computer: String,
    /// Time of the latest row.
    pub time: Ticks,
    /// Fields `FirstSeen` and `LastSeen`.
    pub seen: (Ticks, Ticks),
    /// Field `ConnectionCount`.
    pub connections: u64,
    /// Fields `BytesSent` and `BytesReceived`.
    pub bytes: (u64, u64),
}

/// Alerts of the rule at time 0, sorted by id and remote address. The rule reads connection rows
/// of the past `window` and of the future, and indicator rows of the past `indicator_lookback`.
pub fn expected_alerts(
    indicators: &[IndicatorRow],
    connections: &[ConnectionRow],
    (window, indicator_lookback): (Ticks, Ticks),
) -> Vec<ExpectedAlert> {
    // Order matters: exclusion first, then the newest row of each id, then the check for liveness.
    let mut newest: BTreeMap<&str, (&IndicatorRow, Prefix)> = BTreeMap::new();
    for row in indicators.iter().filter(|row| row.time >= -indicator_lookback) {
        let Some(prefix) = row.entity().and_then(Prefix::parse) else { continue };
        let is_newer = newest.get(row.id.as_str()).is_none_or(|(known, _)| known.time <= row.time);
        if is_newer && !prefix.is_excluded() {
            newest.insert(&row.id, (row, prefix));
        }
    }
    let live = newest.values().filter(|(row, _)| row.is_live());

    let mut found = Vec::new();
    for (indicator, prefix) in live {
        let expires = indicator.expires.unwrap_or(Ticks::MAX);
        let mut by_remote: BTreeMap<String, Vec<&ConnectionRow>> = BTreeMap::new();
        for row in connections {
            let Some(remote) = Prefix::parse(&row.remote) else { continue };
            let mut addresses = std::iter::once(remote).chain(remote.embedded_v4());
            if row.time >= -window && row.time < expires && addresses.any(|it| prefix.contains(it))
            {
                by_remote.entry(remote.address_text()).or_default().push(row);
            }
        }
        for (remote, rows) in by_remote {
            found.extend(expected(indicator, remote, &rows));
        }
    }
    found
}

fn expected(
    indicator: &IndicatorRow,
    remote: String,
    rows: &[&ConnectionRow],
) -> Option<ExpectedAlert> {
    // `max_by_key` returns the last of several maxima.
    let latest = rows.iter().max_by_key(|row| row.time)?;
    Some(ExpectedAlert {
        id: indicator.id.clone(),
        remote,
        feed: indicator.feed.clone(),
        entity: indicator.entity()?.to_owned(),
        computer: latest.computer.clone(),
        time: latest.time,
        seen: (rows.iter().map(|row| row.time).min()?, latest.time),
        connections: rows.iter().map(|row| row.connections()).sum(),
        bytes: (rows.iter().map(|row| row.sent).sum(), rows.iter().map(|row| row.received).sum()),
    })
}

impl IndicatorRow {
    fn entity(&self) -> Option<&str> {
        self.entities.iter().map(String::as_str).find(|text| !text.is_empty())
    }

    fn is_live(&self) -> bool {
        let unexpired = self.expires.is_some_and(|expires| expires > 0);
        self.active == Some(true) && !self.deleted && !self.revoked && unexpired
    }
}

impl ConnectionRow {
    fn connections(&self) -> u64 {
        match self.event.as_deref() {
            None => (self.established + self.failed).max(1),
            Some("opened") => 1,
            Some(_) => 0,
        }
    }
}

/// Address or network as 128 bits. IPv4 is represented in its IPv4-mapped form.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    bits: u128,
    len: u32,
}

const MAPPED: u128 = 0xffff << 32;

impl Prefix {
    fn parse(text: &str) -> Option<Self> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let (bits, len) = if let Ok(v4) = address.parse::<Ipv4Addr>() {
            (MAPPED | u128::from(u32::from(v4)), len.unwrap_or(32) + 96)
        } else {
            (u128::from(address.parse::<Ipv6Addr>().ok()?), len.unwrap_or(128))
        };
        (len <= 128).then(|| Self { bits: bits & mask(len), len })
    }

    const fn is_v4(self) -> bool {
        self.len >= 96 && self.bits >> 32 == MAPPED >> 32
    }

    const fn contains(self, other: Self) -> bool {
        self.is_v4() == other.is_v4()
            && self.len <= other.len
            && self.bits == other.bits & mask(self.len)
    }

    /// The IPv4 address in a NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) address.
    fn embedded_v4(self) -> Option<Self> {
        let low = |bits: u128| MAPPED | bits & 0xffff_ffff;
        let bits = if self.bits >> 32 == 0x64_ff9b << 64 {
            low(self.bits)
        } else if self.bits >> 112 == 0x2002 {
            low(self.bits >> 80)
        } else {
            return None;
        };
        let v4 = Self { bits, len: 128 };
        (!v4.is_special()).then_some(v4)
    }

    fn is_excluded(self) -> bool {
        let shortest = if self.is_v4() { 96 + 8 } else { 19 };
        self.len < shortest || self.is_special()
    }

    /// True if the prefix overlaps a private or special-purpose range.
    fn is_special(self) -> bool {
        const RANGES: [&str; 14] = [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "127.0.0.0/8",
            "0.0.0.0/8",
            "100.64.0.0/10",
            "224.0.0.0/4",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::/10",
            "fc00::/7",
            "ff00::/8",
        ];
        let mut ranges = RANGES.iter().filter_map(|text| Self::parse(text));
        ranges.any(|range| range.contains(self) || self.contains(range))
    }

    fn address_text(self) -> String {
        let v6 = Ipv6Addr::from(self.bits);
        v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
    }
}

const fn mask(len: u32) -> u128 {
    match u128::MAX.checked_shl(128 - len) {
        Some(mask) => mask,
        None => 0,
    }
}
