//! The sections with one set of keys, a function each.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::form::{
    self, DAY, Form, HOUR, MINUTE, SECOND, boolean, choice, duration, ensure, list, number, size,
    size_text, text,
};
use super::key::keys;
use super::location::{absolute_path, http_url, network, short_enough};
use super::section::Section;
use super::{AgentConfig, AllowConfig, DedupConfig, HealthConfig, RowsConfig};
use crate::base::clock::signed;
use crate::deliver::spool::SpoolConfig;
use crate::inventory::{AzureConfig, ImdsMode};
use crate::pipeline::capture::{CaptureConfig, programs};
use crate::pipeline::enrich::DnsCache;
use crate::pipeline::history::HistoryConfig;
use crate::telemetry::log::{LogTarget, check_filter};
use crate::telemetry::metrics::{Listen, MetricsConfig};

/// `[agent]`; the state directory is empty if it is not set.
pub(super) fn agent(section: &mut Section<'_, '_>) -> AgentConfig {
    keys! { section, "agent", RESTART;
        /// Directory of the agent's identity and state. Created with mode 0700.
        state_dir: absolute_path() => optional("see below");
        /// Unix socket for `netsensor status` and for local readers, at most 107 bytes.
        /// Created with mode 0600.
        control_socket: absolute_path().checked(|path| short_enough(path)) => optional("`netsensor.sock` in the state directory");
        /// Value of the `Computer` column.
        computer: text() => optional("the host's full name");
    }
    keys! { section, "agent", RELOAD;
        /// Log level, or directives such as `"warn,sensor_user=debug"`. Messages of the
        /// NATS client library are omitted unless `async_nats=…` enables them: the sink
        /// logs its own. `--log` on the command line takes precedence.
        log: text().checked(|text| check_filter(text)) => default(AgentConfig::LOG.to_owned());
    }
    keys! { section, "agent", RESTART;
        /// Drops all privileges that the agent no longer needs once its probes are
        /// attached
        /// ([threat-model.md](threat-model.md#the-agents-own-process-taken-over)). Set it
        /// to `false` only to find out whether confinement causes a problem; `netsensor
        /// status` shows the state.
        confine: boolean() => default(true);
    }
    let state_dir = state_dir.unwrap_or_default();
    AgentConfig { state_dir, control_socket, computer, log, confine }
}

/// `[log]`.
pub(super) fn log(section: &mut Section<'_, '_>) -> LogTarget {
    let targets = [
        ("auto", LogTarget::Auto),
        ("stderr", LogTarget::Stderr),
        ("journald", LogTarget::Journald),
    ];
    keys! { section, "log", RESTART;
        /// Destination of the log. `"auto"`: the journal if standard error is connected to
        /// it (`$JOURNAL_STREAM` identifies it, as in a systemd unit), otherwise standard
        /// error.
        target: choice(&targets) => default(LogTarget::default());
    }
    target
}

/// `[capture]`.
pub(super) fn capture(section: &mut Section<'_, '_>) -> CaptureConfig {
    let ring = size(CaptureConfig::RING_BYTES_MIN..=CaptureConfig::RING_BYTES_MAX);
    let programs = form::one_of("a program", "names of programs in quotes", programs().collect());
    keys! { section, "capture", RESTART;
        /// Size of the ring buffer between kernel and agent: a power of two. When it is
        /// full, records are lost and counted.
        ring_bytes: ring.checked(|bytes| power_of_two(*bytes)) => default(CaptureConfig::RING_BYTES);
        /// Alternative BPF object to load.
        object: absolute_path() => optional("the built-in one");
        /// Alternative kernel type information (BTF), for a kernel that was built without
        /// BTF.
        btf: absolute_path() => optional("the kernel's, `/sys/kernel/btf/vmlinux`");
        /// BPF programs that are not attached, by name: for kernels on which one of them
        /// misbehaves. The log at startup names the fallback.
        disable: list(programs, "names of programs in quotes") => default(Vec::new());
        /// Queries the kernel's connection tracking for NAT mappings, and also matches the
        /// remote end behind the mapping.
        conntrack: boolean() => default(true);
        /// Interval between socket scans. A scan updates the byte counts and the
        /// round-trip time of open connections, and closes connections whose close event
        /// was lost.
        scan_interval: duration(SECOND..=HOUR) => default(CaptureConfig::SCAN_INTERVAL);
        /// Maximum number of UDP flows that the kernel tracks at once; each uses about 160
        /// bytes of kernel memory. Above the limit, the least recently used flow is closed
        /// and counted.
        udp_flows: number(256..=1_048_576) => default(CaptureConfig::UDP_FLOWS);
        /// Idle timeout of a UDP flow (detected within a further five seconds).
        udp_idle_timeout: duration(SECOND..=HOUR) => default(CaptureConfig::UDP_IDLE);
    }
    CaptureConfig {
        ring_bytes,
        object,
        btf,
        disable,
        drops_per_million: 0,
        conntrack,
        scan_interval,
        udp_flows,
        udp_idle_timeout,
    }
}

fn power_of_two(bytes: u32) -> Result<(), String> {
    ensure(bytes.is_power_of_two(), || {
        let bytes = size_text(bytes.into());
        format!("{bytes} is not a power of two; use 64KiB, 128KiB and so on")
    })
}

/// `[allow]`.
pub(super) fn allow(section: &mut Section<'_, '_>) -> AllowConfig {
    keys! { section, "allow", RELOAD;
        /// Remote addresses and networks that never alert. Suppressed hits are counted.
        networks: list(network(), "networks in quotes") => default(Vec::new());
        /// Absolute paths of files with further networks, read at startup: one network per
        /// line, or a MISP warning list (JSON). In a directory, each `list.json` in it or
        /// below is read (four levels deep), as in a copy of the warning lists. Warning
        /// lists of the types `cidr` and `string` contribute their addresses and networks;
        /// names are ignored and counted in the log. If a file cannot be read, or a line
        /// of a plain file is not a network, the agent does not start.
        files: list(absolute_path(), "absolute paths in quotes") => default(Vec::new());
    }
    AllowConfig { networks, files }
}

/// `[dedup]`.
pub(super) fn dedup(section: &mut Section<'_, '_>) -> DedupConfig {
    keys! { section, "dedup", RELOAD;
        /// After an alert, further hits of the same indicator, address, executable,
        /// container and direction are counted for this long and then summarized in one
        /// alert.
        window: duration(SECOND..=7 * DAY) => default(HOUR);
    }
    keys! { section, "dedup", RESTART;
        /// Maximum number of keys with an open window. When the table is full, a window is
        /// closed early.
        max_keys: number(1..=10_000_000) => default(100_000);
    }
    DedupConfig { window, max_keys }
}

/// `[rows]`.
pub(super) fn rows(section: &mut Section<'_, '_>) -> RowsConfig {
    keys! { section, "rows", RESTART;
        /// Enables `VMConnection` rows. They are sent to sinks that take `"rows"`.
        enabled: boolean() => default(true);
        /// Maximum number of keys in one minute. Connections of further keys are counted
        /// but appear in no row.
        max_keys_per_minute: number(1..=10_000_000) => default(RowsConfig::MAX_KEYS_PER_MINUTE);
    }
    RowsConfig { enabled, max_keys_per_minute }
}

/// `[history]`; `None` if it is disabled. The feeds decide whether private addresses are recorded.
pub(super) fn history(section: &mut Section<'_, '_>) -> Option<HistoryConfig> {
    let default = HistoryConfig::USUAL;
    keys! { section, "history", RESTART;
        /// Keeps connections, to match them with indicators that are added later.
        enabled: boolean() => default(true);
    }
    keys! { section, "history", RELOAD;
        /// Retention of connections; the original rule's lookback is an hour.
        lookback: duration(MINUTE..=7 * DAY) => default(default.lookback.unsigned_abs());
        /// Maximum number of kinds of connections: a kind is a process, a remote address
        /// and a service.
        max_entries: number(100..=10_000_000) => default(default.max_entries);
        /// Maximum size of the files.
        max_size: size(1 << 20..=64 << 30) => default(default.max_bytes);
    }
    let lookback = signed(lookback);
    enabled.then_some(HistoryConfig { lookback, max_entries, max_bytes: max_size, private: false })
}

/// `[health]`.
pub(super) fn health(section: &mut Section<'_, '_>) -> HealthConfig {
    keys! { section, "health", RESTART;
        /// Interval between canaries.
        canary_interval: duration(SECOND..=HOUR) => default(MINUTE);
    }
    HealthConfig { canary_interval }
}

/// `[metrics]`; `None` without an endpoint.
pub(super) fn metrics(section: &mut Section<'_, '_>) -> Option<MetricsConfig> {
    keys! { section, "metrics", RESTART;
        /// Address of the metrics endpoint (HTTP/1.1): a unix socket, or a loopback
        /// address. Other addresses are refused, because the endpoint has no encryption
        /// and no authentication.
        listen: listen_address() => optional("none");
        /// Group that may use the unix socket (mode 0660); without it only the agent's
        /// user may (0600). In the service this requires a drop-in:
        /// [metrics.md](metrics.md).
        group: text() => optional("none");
    }
    if group.is_some() && !matches!(listen, Some(Listen::Unix(_))) {
        section.add("group", "has no meaning but for a unix socket in metrics.listen");
    }
    listen.map(|listen| MetricsConfig { listen, group })
}

/// A unix socket or a loopback address.
fn listen_address() -> Form<Listen> {
    const FORM: &str = "\"unix:/path\" or a loopback address such as \"127.0.0.1:9477\"";
    let listen = |text: String| {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            ensure(path.is_absolute(), || format!("{text:?} is not absolute; use {FORM}"))?;
            short_enough(&path)?;
            return Ok(Listen::Unix(path));
        }
        let address: SocketAddr = text.parse().map_err(|_not_an_address| {
            format!("{text:?} is not an address with a port; use {FORM}")
        })?;
        ensure(address.ip().to_canonical().is_loopback(), || {
            format!(
                "{text:?} is not a loopback address, and metrics are sent without encryption and \
                 authentication; use {FORM}, and a proxy with TLS for clients on other hosts"
            )
        })?;
        ensure(address.port() != 0, || format!("{text:?} has no port; use {FORM}"))?;
        Ok(Listen::Loopback(address))
    };
    form::text_as(FORM).try_map(listen)
}

/// `[azure]`.
pub(super) fn azure(section: &mut Section<'_, '_>) -> AzureConfig {
    let modes = [("auto", ImdsMode::Auto), ("on", ImdsMode::On), ("off", ImdsMode::Off)];
    keys! { section, "azure", RESTART;
        /// Queries Azure's instance metadata: `"auto"` if the firmware identifies an Azure
        /// machine (`/sys/class/dmi/id/chassis_asset_tag`), `"on"`, `"off"`.
        imds: choice(&modes) => default(ImdsMode::default());
        /// URL of the service; only tests use another address.
        imds_url: http_url() => optional(
            "that of Azure, `http://169.254.169.254/metadata/instance?api-version=2021-02-01`"
        );
    }
    AzureConfig { imds, imds_url }
}

/// `[connections]`: maximum number of tracked connections.
pub(super) fn connections(section: &mut Section<'_, '_>) -> usize {
    keys! { section, "connections", RESTART;
        /// Maximum number of tracked connections.
        max: number(1..=16_777_216) => default(262_144);
    }
    max
}

/// `[processes]`: maximum number of tracked processes.
pub(super) fn processes(section: &mut Section<'_, '_>) -> usize {
    keys! { section, "processes", RESTART;
        /// Maximum number of tracked processes.
        max: number(1..=16_777_216) => default(131_072);
    }
    max
}

/// `[dns]`: maximum number of names of remote addresses.
pub(super) fn dns(section: &mut Section<'_, '_>) -> usize {
    keys! { section, "dns", RESTART;
        /// Maximum number of names over all addresses; 0 disables names. Each name uses
        /// about 200 bytes. Above the limit, the names of the least recently used address
        /// are evicted and counted.
        max_names: number(0..=1_048_576) => default(DnsCache::MAX);
    }
    max_names
}

/// `[geoip]`: the database of locations.
pub(super) fn geoip(section: &mut Section<'_, '_>) -> Option<PathBuf> {
    keys! { section, "geoip", RESTART;
        /// Database in MaxMind's format (`.mmdb`): GeoLite2 or GeoIP2 (Country, City), or
        /// the flat layout of ip-location-db.
        database: absolute_path() => optional("none");
    }
    database
}

/// `[spool]`.
pub(super) fn spool(section: &mut Section<'_, '_>) -> SpoolConfig {
    let default = SpoolConfig::USUAL;
    keys! { section, "spool", RESTART;
        /// Maximum size of the alerts on disk (plus one segment while it is being
        /// written). Above it, the oldest are evicted.
        max_size: size(1 << 20..=1 << 40) => default(default.max_bytes);
        /// Maximum age of alerts. Older alerts are evicted, delivered or not.
        max_age: duration(HOUR..=3650 * DAY) => default(default.max_age);
    }
    // A small spool has small segments by default.
    let segment: u64 = default.segment_bytes.min(max_size / 4);
    keys! { section, "spool", RESTART;
        /// Size of one file, at most half of `max_size`, and by default at most a quarter
        /// of it. Files are deleted as a whole.
        segment_size: size(64 << 10..=1 << 30) => default(segment);
        /// Maximum number of alerts that wait in memory for the disk. Further alerts are
        /// dropped and counted (`alerts_dropped_queue_full`).
        queue: number(1..=10_000_000) => default(default.queue);
    }
    if segment_size > max_size / 2 {
        let max = size_text(max_size / 2);
        section.add("segment_size", &format!("is over half of spool.max_size; use {max} or less"));
    }
    SpoolConfig { max_bytes: max_size, max_age, segment_bytes: segment_size, queue }
}
