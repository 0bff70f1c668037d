//! Response latency, measured at write and read calls. Definition and limits:
//! [`sensor_ebpf::latency`].
//!
//! Two threads that use a connection at the same time may lose a response, since nothing is locked.
//! Map type: `Documentation/bpf/map_hash.rst`.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};
use sensor_ebpf::latency::{
    ConnectionLatency, LatencyCounts, RESPONSE_IDLE_NS, ResponseDirection, TcpLatencyRecord,
};
use sensor_ebpf::maps::LATENCY_MAX;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::RecordKind;

use crate::emit::{self, Ledger, boot_ns};
use crate::kernel::Structure;

#[map]
static LATENCY: LruHashMap<u64, ConnectionLatency> = LruHashMap::with_max_entries(LATENCY_MAX, 0);

#[map]
static LATENCY_EPOCH: Array<u32> = Array::with_max_entries(1, 0);

const NONE: LatencyCounts = LatencyCounts { sum_us: 0, count: 0, min_us: 0, max_us: 0, epoch: 0 };

/// Records a call that moved payload of the connection `sk` in `direction`. Returns true if it is
/// the first one.
///
/// Socket cookie: `bpf_get_socket_cookie`, `bpf-helpers(7)`; in tracing programs v5.12 and later.
///
/// # Safety
///
/// `sk` must be a pointer that the verifier accepts as a socket.
#[inline(always)]
pub(crate) unsafe fn record_call(sk: *const u8, direction: ResponseDirection) -> bool {
    // SAFETY: the caller's contract.
    let key = unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
    let (now, run_direction) = (boot_ns(), direction as u32 + 1);
    let Some(latency) = LATENCY.get_ptr_mut(&key) else {
        let first = ConnectionLatency {
            run_end_ns: now,
            request_end_ns: 0,
            counts: [[NONE; 2]; 2],
            run_direction,
            padding: 0,
        };
        let _existed = LATENCY.insert(&key, &first, u64::from(BPF_NOEXIST));
        return true;
    };
    // SAFETY: a value of the map, valid for the program's life.
    unsafe {
        let same_direction = (*latency).run_direction == run_direction;
        let idle = now.wrapping_sub((*latency).run_end_ns) > RESPONSE_IDLE_NS;
        if !same_direction || idle {
            count_response(latency);
            // A run in the same direction after an idle period is no response.
            (*latency).request_end_ns = if same_direction { 0 } else { (*latency).run_end_ns };
            (*latency).run_direction = run_direction;
        }
        (*latency).run_end_ns = now;
    }
    false
}

/// Counts the latest run, which has ended, if it is a response.
///
/// # Safety
///
/// `latency` must be a value of the map.
#[inline(always)]
unsafe fn count_response(latency: *mut ConnectionLatency) {
    // SAFETY: the caller's contract; a value of the array.
    unsafe {
        let (request_end, response_end) = ((*latency).request_end_ns, (*latency).run_end_ns);
        let Some(epoch) = LATENCY_EPOCH.get_ptr(0) else { return };
        let epoch = epoch.read_volatile();
        if request_end == 0 || epoch == 0 {
            return;
        }
        let us = response_end.wrapping_sub(request_end) / 1000;
        let us32 = if us > u64::from(u32::MAX) { u32::MAX } else { us as u32 };
        let is_sent = (*latency).run_direction == ResponseDirection::Sent as u32 + 1;
        let [sent, received] = &mut (*latency).counts;
        let [even, odd] = if is_sent { sent } else { received };
        let counts = if epoch & 1 == 0 { even } else { odd };
        if counts.epoch != epoch {
            *counts = LatencyCounts { sum_us: us, count: 1, min_us: us32, max_us: us32, epoch };
            return;
        }
        counts.sum_us = counts.sum_us.wrapping_add(us);
        counts.count = counts.count.wrapping_add(1);
        if us32 < counts.min_us {
            counts.min_us = us32;
        }
        if us32 > counts.max_us {
            counts.max_us = us32;
        }
    }
}

/// Emits the response latency of a connection that ends, ahead of its close record, and removes it
/// from the map. `tcp` is the socket as a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn emit_and_remove(tcp: impl Structure) {
    // A connection without a read or write has no cookie. In a flood of connections most are
    // recognized by this load alone.
    let key: u64 = tcp.get(Offset::SkCookie).unwrap_or(0);
    let received: u64 = tcp.get(Offset::TcpBytesReceived).unwrap_or(0);
    if key == 0 || received == 0 {
        return;
    }
    let Some(latency) = LATENCY.get_ptr_mut(&key) else { return };
    // SAFETY: a value of the map, valid for the program's life.
    unsafe {
        count_response(latency);
        let [[a, b], [c, d]] = &(*latency).counts;
        if a.count | b.count | c.count | d.count != 0 {
            emit::record::<TcpLatencyRecord>(Ledger::Tcp, |record| {
                (*record).header = emit::header::<TcpLatencyRecord>(RecordKind::TcpLatency, 0);
                (*record).cookie = key;
                let from = (&raw const (*latency).counts).cast::<Words>();
                (&raw mut (*record).counts).cast::<Words>().write(from.read());
            });
        }
    }
    let _already_removed = LATENCY.remove(&key);
}

/// Counts as words: BPF has no unaligned stores.
type Words = [u64; size_of::<[[LatencyCounts; 2]; 2]>() / 8];
