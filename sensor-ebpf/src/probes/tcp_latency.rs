//! ConnectionLatency of request and answer, by the calls that write and read. What they mean, and what they
//! cannot: [`sensor_ebpf::latency`].
//!
//! Two threads that use one connection at once may lose each other a turn: nothing is locked.

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

/// Payload went through the connection `sk`, this way; says whether it is the first of it.
///
/// # Safety
///
/// `sk` must be what the verifier takes for a socket.
#[inline(always)]
pub(crate) unsafe fn moves(sk: *const u8, way: ResponseDirection) -> bool {
    // SAFETY: the caller's promise.
    let key = unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
    let (now, way) = (boot_ns(), way as u32 + 1);
    let Some(turns) = LATENCY.get_ptr_mut(&key) else {
        let counts = [[NONE; 2]; 2];
        let first = ConnectionLatency { run_end_ns: now, asked_ns: 0, counts, way, padding: 0 };
        let _there_already = LATENCY.insert(&key, &first, u64::from(BPF_NOEXIST));
        return true;
    };
    // SAFETY: a value of the map, valid for the program's life.
    unsafe {
        let goes_on = (*turns).way == way;
        let silent = now.wrapping_sub((*turns).run_end_ns) > RESPONSE_IDLE_NS;
        if !goes_on || silent {
            finish(turns);
            (*turns).asked_ns = if goes_on { 0 } else { (*turns).run_end_ns };
            (*turns).way = way;
        }
        (*turns).run_end_ns = now;
    }
    false
}

/// Counts the run that has ended, if it answered one.
///
/// # Safety
///
/// `turns` must be a value of the map.
#[inline(always)]
unsafe fn finish(turns: *mut ConnectionLatency) {
    // SAFETY: the caller's promise; a value of the array.
    unsafe {
        let (asked, end) = ((*turns).asked_ns, (*turns).run_end_ns);
        let Some(epoch) = LATENCY_EPOCH.get_ptr(0) else { return };
        let epoch = epoch.read_volatile();
        if asked == 0 || epoch == 0 {
            return;
        }
        let us = end.wrapping_sub(asked) / 1000;
        let us32 = if us > u64::from(u32::MAX) { u32::MAX } else { us as u32 };
        let [sent, received] = &mut (*turns).counts;
        let of_way =
            if (*turns).way == ResponseDirection::Sent as u32 + 1 { sent } else { received };
        let [even, odd] = of_way;
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

/// Tells the turns of a connection that ends, ahead of its end, and forgets them. `tcp` is the socket
/// as a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn ends(tcp: impl Structure) {
    // One that was never written to or read has no cookie: most of a storm is told so for a load.
    let key: u64 = tcp.get(Offset::SkCookie).unwrap_or(0);
    let received: u64 = tcp.get(Offset::TcpBytesReceived).unwrap_or(0);
    if key == 0 || received == 0 {
        return;
    }
    let Some(turns) = LATENCY.get_ptr_mut(&key) else { return };
    // SAFETY: a value of the map, valid for the program's life.
    unsafe {
        finish(turns);
        let [[a, b], [c, d]] = &(*turns).counts;
        if a.count | b.count | c.count | d.count != 0 {
            emit::record::<TcpLatencyRecord>(Ledger::Tcp, |record| {
                (*record).header = emit::header::<TcpLatencyRecord>(RecordKind::TcpLatency, 0);
                (*record).cookie = key;
                let from = (&raw const (*turns).counts).cast::<Words>();
                (&raw mut (*record).counts).cast::<Words>().write(from.read());
            });
        }
    }
    let _gone_already = LATENCY.remove(&key);
}

/// The counts in words: BPF has no unaligned stores.
type Words = [u64; size_of::<[[LatencyCounts; 2]; 2]>() / 8];
