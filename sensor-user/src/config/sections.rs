//! One function a section: what its keys are, and what they default to.

use std::time::Duration;

use super::reader::Section;
use super::values;
use super::{AgentConfig, AllowConfig, DedupConfig, HealthConfig, RowsConfig};
use crate::base::clock::signed;
use crate::deliver::spool::SpoolConfig;
use crate::inventory::{AzureConfig, ImdsMode};
use crate::pipeline::capture::CaptureConfig;
use crate::pipeline::enrich::DnsCache;
use crate::pipeline::history::HistoryConfig;
use crate::telemetry::log::LogTarget;

/// Names of all sections.
pub(super) const ALL: [&str; 17] = [
    "agent",
    "log",
    "capture",
    "feed",
    "allow",
    "dedup",
    "rows",
    "history",
    "health",
    "metrics",
    "azure",
    "connections",
    "processes",
    "names",
    "geo",
    "spool",
    "sink",
];

/// `[agent]`; the state directory is `None` where it is not set.
pub(super) fn agent(mut section: Section<'_, '_>) -> (Option<std::path::PathBuf>, AgentConfig) {
    let state_dir = section.read("state_dir", values::absolute_path);
    let control_socket = section.read("control_socket", values::socket_path);
    let computer = section.read("computer", values::text);
    let log = section.read("log", |value| {
        let text = values::text(value)?;
        match text.parse::<tracing_subscriber::EnvFilter>() {
            Ok(_) => Ok(text),
            Err(error) => Err(format!(
                "{text:?} is not a log filter ({error}); use one such as \"info\" or \
                 \"warn,sensor_user=debug\""
            )),
        }
    });
    let confine = section.read("confine", values::boolean).unwrap_or(true);
    section.finish();
    let log = log.unwrap_or_else(|| AgentConfig::LOG.to_owned());
    (
        state_dir,
        AgentConfig {
            state_dir: std::path::PathBuf::new(),
            control_socket,
            computer,
            log,
            confine,
        },
    )
}

/// `[log]`: where it goes.
pub(super) fn log(mut section: Section<'_, '_>) -> LogTarget {
    let targets = [LogTarget::Auto, LogTarget::Stderr, LogTarget::Journald];
    let at = section.read("target", |value| values::word(&["auto", "stderr", "journald"], value));
    section.finish();
    at.and_then(|at| targets.get(at)).copied().unwrap_or_default()
}

/// `[capture]`.
pub(super) fn capture(mut section: Section<'_, '_>) -> CaptureConfig {
    let ring_bytes = section.read("ring_bytes", |value| {
        let bytes =
            values::size(CaptureConfig::RING_BYTES_MIN..=CaptureConfig::RING_BYTES_MAX)(value)?;
        let small = u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two());
        small.ok_or_else(|| {
            format!(
                "{} is not a power of two; use 64KiB, 128KiB and so on",
                values::size_text(bytes)
            )
        })
    });
    let object = section.read("object", values::absolute_path);
    let btf = section.read("btf", values::absolute_path);
    let disable = section.read_list("disable", "names of programs in quotes", values::program);
    let conntrack = section.read("conntrack", values::boolean);
    let scan_interval = section.read("scan_interval", values::duration(SECOND..=HOUR));
    let udp_flows = section.read("udp_flows", values::number(256..=1_048_576_u32));
    let udp_idle = section.read("udp_idle", values::duration(SECOND..=HOUR));
    section.finish();
    CaptureConfig {
        ring_bytes: ring_bytes.unwrap_or(CaptureConfig::RING_BYTES),
        object,
        btf,
        disable: disable.unwrap_or_default(),
        drops_per_million: 0,
        conntrack: conntrack.unwrap_or(true),
        scan_interval: scan_interval.unwrap_or(CaptureConfig::SCAN_INTERVAL),
        udp_flows: udp_flows.unwrap_or(CaptureConfig::UDP_FLOWS),
        udp_idle: udp_idle.unwrap_or(CaptureConfig::UDP_IDLE),
    }
}

/// `[dedup]`.
pub(super) fn dedup(mut section: Section<'_, '_>) -> DedupConfig {
    let window = section.read("window", values::duration(SECOND..=7 * DAY));
    let max_keys = section.read("max_keys", values::number(1..=10_000_000_usize));
    section.finish();
    DedupConfig { window: window.unwrap_or(HOUR), max_keys: max_keys.unwrap_or(100_000) }
}

/// `[rows]`.
pub(super) fn rows(mut section: Section<'_, '_>) -> RowsConfig {
    let enabled = section.read("enabled", values::boolean);
    let most = section.read("max_keys_per_minute", values::number(1..=10_000_000_usize));
    section.finish();
    RowsConfig {
        enabled: enabled.unwrap_or(true),
        max_keys_per_minute: most.unwrap_or(RowsConfig::MAX_KEYS_PER_MINUTE),
    }
}

/// `[history]`; `None` where it is off. Whether private addresses are kept is the feeds' to say.
pub(super) fn history(mut section: Section<'_, '_>) -> Option<HistoryConfig> {
    let enabled = section.read("enabled", values::boolean);
    let lookback = section.read("lookback", values::duration(MINUTE..=7 * DAY));
    let max_entries = section.read("max_entries", values::number(100..=10_000_000_usize));
    let max_bytes = section.read("max_size", values::size(1 << 20..=64 << 30));
    section.finish();
    let usual = HistoryConfig::USUAL;
    enabled.unwrap_or(true).then(|| HistoryConfig {
        lookback: lookback.map_or(usual.lookback, signed),
        max_entries: max_entries.unwrap_or(usual.max_entries),
        max_bytes: max_bytes.unwrap_or(usual.max_bytes),
        private: false,
    })
}

/// `[health]`.
pub(super) fn health(mut section: Section<'_, '_>) -> HealthConfig {
    let every = section.read("canary_interval", values::duration(SECOND..=HOUR));
    section.finish();
    HealthConfig { canary_interval: every.unwrap_or(MINUTE) }
}

/// `[azure]`.
pub(super) fn azure(mut section: Section<'_, '_>) -> AzureConfig {
    let modes = [ImdsMode::Auto, ImdsMode::On, ImdsMode::Off];
    let mode = section.read("imds", |value| values::word(&["auto", "on", "off"], value));
    let imds_url = section.read("imds_url", values::http_url);
    section.finish();
    AzureConfig { imds: mode.and_then(|at| modes.get(at)).copied().unwrap_or_default(), imds_url }
}

/// `[allow]`.
pub(super) fn allow(mut section: Section<'_, '_>) -> AllowConfig {
    let networks = section.read_list("networks", "networks in quotes", values::network);
    let files = section.read_list("files", "absolute paths in quotes", values::absolute_path);
    section.finish();
    AllowConfig { networks: networks.unwrap_or_default(), files: files.unwrap_or_default() }
}

/// `[connections]` and `[processes]`: how many entries are kept at once.
pub(super) fn most(mut section: Section<'_, '_>, default: usize) -> usize {
    let max = section.read("max", values::number(1..=16_777_216_usize));
    section.finish();
    max.unwrap_or(default)
}

/// `[names]`: how many are kept at once.
pub(super) fn names(mut section: Section<'_, '_>) -> usize {
    let max = section.read("max", values::number(0..=1_048_576_usize));
    section.finish();
    max.unwrap_or(DnsCache::MAX)
}

/// `[geo]`: the database.
pub(super) fn geo(mut section: Section<'_, '_>) -> Option<std::path::PathBuf> {
    let database = section.read("database", values::absolute_path);
    section.finish();
    database
}

/// `[spool]`.
pub(super) fn spool(mut section: Section<'_, '_>) -> SpoolConfig {
    let max_bytes = section.read("max_size", values::size(1 << 20..=1 << 40));
    let max_age = section.read("max_age", values::duration(HOUR..=3650 * DAY));
    let segment_bytes = section.read("segment_size", values::size(64 << 10..=1 << 30));
    let queue = section.read("queue", values::number(1..=10_000_000_usize));
    let usual = SpoolConfig::USUAL;
    let max_bytes = max_bytes.unwrap_or(usual.max_bytes);
    // Unless set, a small spool has small segments.
    let small = usual.segment_bytes.min(max_bytes / 4);
    let segment_bytes = segment_bytes.unwrap_or(small);
    if segment_bytes > max_bytes / 2 {
        let most = values::size_text(max_bytes / 2);
        section
            .note("segment_size", &format!("is over half of spool.max_size; use {most} or less"));
    }
    section.finish();
    SpoolConfig {
        max_bytes,
        max_age: max_age.unwrap_or(usual.max_age),
        segment_bytes,
        queue: queue.unwrap_or(usual.queue),
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
