//! `Capture`: the loaded BPF object, its ring buffer and its counters.
//!
//! The ring buffer is [BPF_MAP_TYPE_RINGBUF](https://docs.kernel.org/bpf/ringbuf.html).

use std::fmt::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, MapData, MapError, PerCpuArray, RingBuf};
use aya::util::KernelVersion;
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, Endianness};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sensor_ebpf::maps::{
    COARSE_TIME, COUNTERS, LossCounter, OFFSETS, READER_ASLEEP, RECORDS, RESULT_REGISTER,
    TRACING_COOKIE, UDP_FLOWS, WAKE_AT_BYTES,
};
use sensor_ebpf::offsets::MISSING;
use sha2::{Digest as _, Sha256};

use super::accept_hooks;
use super::attach::{Hook, HookState, innermost};
use super::config::CaptureConfig;
use super::error::{CaptureError, bad_map};
use super::hooks::{self, Hooks};
use super::latency_map::LatencyMap;
use super::maps::take_map;
use super::missed_runs::{MissedRunCounters, MissedRuns};
use super::offsets::{KernelTypes, VMLINUX_BTF};
use super::udp_flows::UdpFlows;
use crate::base::counters::KernelCounters;

/// The embedded object, built from the sources of this agent.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!("../../../../sensor-ebpf/object/netsensor.bpf.o");

/// The loaded and attached BPF programs. They are detached on drop.
pub struct Capture {
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    reader_asleep: Array<MapData, u32>,
    udp_flows: UdpFlows,
    latency: LatencyMap,
    epoll: Epoll,
    hooks: Hooks,
    object: String,
    missing: Vec<String>,
    missed_run_counters: MissedRunCounters,
    /// Skipped runs at the time when the programs were detached.
    missed_runs: Option<MissedRuns>,
    /// Owner of programs and links.
    ebpf: Option<Ebpf>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl Capture {
    /// Loads the object, and attaches the programs that this kernel permits.
    pub fn open(config: &CaptureConfig) -> Result<Self, CaptureError> {
        let btf_path = config.btf.as_deref().unwrap_or_else(|| VMLINUX_BTF.as_ref());
        let ParsedTypes { types, btf, loader } = parse_types(btf_path)?;
        let (mut ebpf, object) = load(config, loader, btf.as_ref(), &types)?;
        let ring: RingBuf<MapData> = take_map(&mut ebpf, RECORDS)?;
        let counters = take_map(&mut ebpf, COUNTERS)?;
        let reader_asleep = take_map(&mut ebpf, READER_ASLEEP)?;
        let udp_flows = take_map(&mut ebpf, UDP_FLOWS)?;
        let latency = LatencyMap::take(&mut ebpf)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(CaptureError::Wait)?;
        // Edge-triggered: only the forced wakeups of a ring buffer that fills too fast end the
        // wait.
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        epoll.add(&ring, event).map_err(CaptureError::Wait)?;
        let hooks = hooks::attach(&mut ebpf, btf.as_ref(), &types, &config.disable);
        on_own_thread(move || drop(btf))?;
        if !hooks.tcp_state.iter().any(Hook::is_on) {
            return Err(CaptureError::NoTcpHook { reasons: reasons(&hooks) });
        }
        Ok(Self {
            ring,
            counters,
            reader_asleep,
            udp_flows,
            latency,
            epoll,
            missing: types.missing,
            missed_run_counters: MissedRunCounters::open(&ebpf, &hooks),
            hooks,
            object,
            missed_runs: None,
            ebpf: Some(ebpf),
        })
    }

    /// State of all hooks.
    pub const fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// First digits of the SHA-256 of the object.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Structure members that this kernel lacks.
    pub fn missing_members(&self) -> &[String] {
        &self.missing
    }

    /// The map of UDP flows.
    pub const fn udp_flows(&mut self) -> &mut UdpFlows {
        &mut self.udp_flows
    }

    /// The map of response latency.
    pub const fn latency(&mut self) -> &mut LatencyMap {
        &mut self.latency
    }

    /// Passes at most `max` records of the ring buffer to `each`, oldest first. Returns their
    /// number.
    pub fn drain(&mut self, max: u32, mut each: impl FnMut(&[u8])) -> u32 {
        let mut records = 0;
        while records < max
            && let Some(record) = self.ring.next()
        {
            each(&record);
            records += 1;
        }
        records
    }

    /// Waits for `limit`, or until the ring buffer is so full that it must be drained now.
    pub fn wait(&self, limit: Duration) {
        let limit = EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::ZERO);
        // A signal may end the wait early, which is harmless.
        let _interrupted = self.epoll.wait(&mut [EpollEvent::empty()], limit);
    }

    /// Waits for `limit`, or until there is a record.
    pub fn sleep(&mut self, limit: Duration) -> Result<(), CaptureError> {
        self.reader_asleep.set(0, 1, 0).map_err(|error| bad_map(READER_ASLEEP, Some(error)))?;
        // poll is level-triggered: it returns at once if a record arrived before the flag was set.
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // A signal may end the wait early, which is harmless.
        let _interrupted = poll(&mut ring, limit);
        Ok(())
    }

    /// Detaches every program. The ring buffer can still be drained, and the counters read.
    pub fn detach(&mut self) {
        self.missed_runs = Some(self.missed_run_counters.read());
        self.ebpf = None;
    }

    /// Returns the counters of the BPF programs.
    pub fn counters(&self) -> Result<KernelCounters, CaptureError> {
        let sum = |counter: LossCounter| -> Result<u64, CaptureError> {
            let values = self
                .counters
                .get(&(counter as u32), 0)
                .map_err(|error| bad_map(COUNTERS, Some(error)))?;
            Ok(values.iter().sum())
        };
        let missed = self.missed_runs.unwrap_or_else(|| self.missed_run_counters.read());
        Ok(KernelCounters {
            tcp_attempted: sum(LossCounter::TcpAttempted)?,
            tcp_ring_full: sum(LossCounter::TcpRingFull)?,
            process_attempted: sum(LossCounter::ProcessAttempted)?,
            process_ring_full: sum(LossCounter::ProcessRingFull)?,
            accept_pending_evicted: sum(LossCounter::AcceptPendingEvicted)?,
            read_failed: sum(LossCounter::ReadFailed)?,
            udp_attempted: sum(LossCounter::UdpAttempted)?,
            udp_ring_full: sum(LossCounter::UdpRingFull)?,
            udp_uncounted: sum(LossCounter::UdpUncounted)?,
            tcp_missed: missed.tcp,
            process_missed: missed.process,
            udp_missed: missed.udp,
            dns_attempted: sum(LossCounter::DnsAttempted)?,
            dns_ring_full: sum(LossCounter::DnsRingFull)?,
            dns_over_rate: sum(LossCounter::DnsOverRate)?,
        })
    }
}

/// Types of the kernel, and a loader that uses them.
struct ParsedTypes {
    types: KernelTypes,
    btf: Option<Btf>,
    loader: EbpfLoader<'static>,
}

/// Reads the kernel's types. They take some 40 MiB for a moment, in small allocations. A separate
/// thread has a separate arena, which the allocator releases; in the arena of the agent, the
/// allocations would leave permanent holes.
fn parse_types(btf_path: &Path) -> Result<ParsedTypes, CaptureError> {
    on_own_thread(|| {
        let types = KernelTypes::read(btf_path).unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's types are unknown");
            KernelTypes::unknown()
        });
        // A new loader parses the kernel's own file, also if another one is set later.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        let btf = Btf::parse_file(btf_path, Endianness::default()).ok();
        ParsedTypes { types, btf, loader }
    })
}

/// Runs `work` on a new thread, and waits for it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, CaptureError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("types".to_owned());
        let running = thread.spawn_scoped(scope, work).map_err(CaptureError::Thread)?;
        running.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn load(
    config: &CaptureConfig,
    loader: EbpfLoader<'static>,
    btf: Option<&Btf>,
    types: &KernelTypes,
) -> Result<(Ebpf, String), CaptureError> {
    let wake_at = config.ring_bytes / 4;
    let coarse_time = u32::from(has_coarse_time());
    let tracing_cookie = u32::from(has_tracing_cookie());
    let result_register = accept_hooks::RESULT_REGISTER_OFFSET.unwrap_or(MISSING);
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .btf(btf)
        .map_max_entries(RECORDS, config.ring_bytes)
        .map_max_entries(UDP_FLOWS, config.udp_flows)
        .override_global(OFFSETS, &types.offsets, true)
        .override_global(WAKE_AT_BYTES, &wake_at, true)
        .override_global(COARSE_TIME, &coarse_time, true)
        .override_global(TRACING_COOKIE, &tracing_cookie, true)
        .override_global(RESULT_REGISTER, &result_register, true);
    let (origin, digest, loaded) = match &config.object {
        None => ("embedded BPF object".to_owned(), digest(OBJECT), loader.load(OBJECT)),
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|source| CaptureError::ReadObject { path: path.clone(), source })?;
            (path.display().to_string(), digest(&bytes), loader.load(&bytes))
        }
    };
    let ebpf = loaded.map_err(|error| match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
            CaptureError::Refused { errno: io_error.to_string() }
        }
        other => CaptureError::BadObject { origin, detail: innermost(&other) },
    })?;
    Ok((ebpf, digest))
}

/// Short hash of an object, by which operators can identify it.
fn digest(object: &[u8]) -> String {
    let digest = Sha256::digest(object);
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// True if the kernel has `bpf_ktime_get_coarse_ns` (v5.11).
fn has_coarse_time() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 11, 0))
}

/// True if tracing programs of the kernel have `bpf_get_socket_cookie` (v5.12).
fn has_tracing_cookie() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 12, 0))
}

fn reasons(hooks: &Hooks) -> String {
    let each = hooks.tcp_state.iter().filter_map(|hook| match &hook.state {
        HookState::Off(reason) => Some(format!("{}: {reason}", hook.attach)),
        _ => None,
    });
    each.collect::<Vec<_>>().join("; ")
}
