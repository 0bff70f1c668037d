//! Where: addresses, ports and counts out of a `struct sock`.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{RecordHeader, TcpRecord};

use crate::globals::{count, offset};
use crate::task::member;

pub(crate) const AF_INET: u16 = 2;
pub(crate) const IPPROTO_TCP: u16 = 6;

pub(crate) const TCP_ESTABLISHED: u8 = 1;
pub(crate) const TCP_SYN_SENT: u8 = 2;
pub(crate) const TCP_SYN_RECV: u8 = 3;
pub(crate) const TCP_FIN_WAIT1: u8 = 4;
pub(crate) const TCP_CLOSE: u8 = 7;
pub(crate) const TCP_LAST_ACK: u8 = 9;
pub(crate) const TCP_LISTEN: u8 = 10;

/// `enum sock_flags`: set when the peer's FIN was received (`tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// `sizeof(struct sock_common)` is 136 on every 64-bit kernel from 5.8 to 7.0; one read of it
/// costs less than two of its members.
const SOCK_COMMON_LEN: usize = 136;

/// The start of a `struct sock`, copied. Lives in the caller's frame and is read in place: a
/// second copy does not fit on the stack of 512 bytes.
#[repr(align(8))]
struct SockCommon(MaybeUninit<[u8; SOCK_COMMON_LEN]>);

impl SockCommon {
    /// Copies it; false (and counted) when it cannot be read. It is zeroed then.
    #[inline(always)]
    fn read(&mut self, sk: *const u8) -> bool {
        // SAFETY: the destination is writable for that many bytes; the source is checked by the
        // kernel, which zeroes the destination when it cannot be read.
        let result = unsafe {
            bpf_probe_read_kernel(self.0.as_mut_ptr().cast(), SOCK_COMMON_LEN as u32, sk.cast())
        };
        if result != 0 {
            count(LossCounter::ReadFailed);
        }
        result == 0
    }

    /// A member, or zero where this kernel has none.
    #[inline(always)]
    fn get<T: Copy + Default>(&self, at: Offset) -> T {
        match offset(at) {
            Some(at) if at <= SOCK_COMMON_LEN - size_of::<T>() => {
                // SAFETY: `read` has written all bytes; the guard keeps this one inside them. The
                // kernel's compiler aligns each member to its size, and the copy begins at a
                // multiple of 8 as the socket does.
                unsafe { self.0.as_ptr().cast::<u8>().add(at).cast::<T>().read() }
            }
            _ => T::default(),
        }
    }
}

/// Inode number of the network namespace of a socket; 0 when it cannot be told. For pointers on
/// which the verifier allows no arithmetic: the socket is read from its start.
#[inline(always)]
pub(crate) fn netns(sk: *const u8) -> u32 {
    let mut common = SockCommon(MaybeUninit::uninit());
    if !common.read(sk) {
        return 0;
    }
    let net: u64 = common.get(Offset::SkNet);
    if net == 0 { 0 } else { member(net as *const u8, Offset::NetInum).unwrap_or(0) }
}

/// `sk_protocol`; 0 when it cannot be told.
#[inline(always)]
pub(crate) fn protocol(sk: *const u8) -> u16 {
    member(sk, Offset::SkProtocol).unwrap_or(0)
}

/// `sk_err`; 0 when it cannot be told.
#[inline(always)]
pub(crate) fn error(sk: *const u8) -> u32 {
    member::<i32>(sk, Offset::SkErr).unwrap_or(0).unsigned_abs()
}

/// Fills `record` with what a socket tells at any time; the task is the caller's to fill.
///
/// # Safety
///
/// `record` must be writable for a whole `TcpRecord`; every field but `task` is written. It is
/// filled in place: two records do not fit on the stack of 512 bytes.
#[inline(always)]
pub(crate) unsafe fn fill(
    record: *mut TcpRecord,
    header: RecordHeader,
    sk: *const u8,
    states: (u8, u8),
) {
    // SAFETY: the caller's promise.
    unsafe { fill_empty(record, header, sk, states) };
    let mut common = SockCommon(MaybeUninit::uninit());
    if !common.read(sk) {
        return;
    }
    let family = common.get(Offset::SkFamily);
    let net: u64 = common.get(Offset::SkNet);
    // SAFETY: the caller's promise.
    unsafe {
        (*record).family = family;
        (*record).cookie = common.get(Offset::SkCookie);
        (*record).remote_port = u16::from_be(common.get(Offset::SkDport));
        (*record).local_port = common.get(Offset::SkNum);
        if family == AF_INET {
            set_address(&raw mut (*record).local_addr, widen(common.get(Offset::SkRcvSaddr)));
            set_address(&raw mut (*record).remote_addr, widen(common.get(Offset::SkDaddr)));
        } else {
            set_address(&raw mut (*record).local_addr, common.get(Offset::SkV6RcvSaddr));
            set_address(&raw mut (*record).remote_addr, common.get(Offset::SkV6Daddr));
        }
        if net != 0 {
            (*record).netns = member(net as *const u8, Offset::NetInum).unwrap_or(0);
        }
    }
}

/// Adds the final counts, the error and the port that `skc_num` has lost by now.
///
/// # Safety
///
/// `record` must have been filled by [`fill`], and `sk` be a `struct tcp_sock`.
#[inline(always)]
pub(crate) unsafe fn fill_close(record: *mut TcpRecord, sk: *const u8) {
    let sent: u64 = member(sk, Offset::TcpBytesSent).unwrap_or(0);
    let again: u64 = member(sk, Offset::TcpBytesRetrans).unwrap_or(0);
    let received: u64 = member(sk, Offset::TcpBytesReceived).unwrap_or(0);
    let srtt: u32 = member(sk, Offset::TcpSrttUs).unwrap_or(0);
    let flags: u64 = member(sk, Offset::SkFlags).unwrap_or(0);
    let fin = u64::from(flags & SOCK_DONE != 0);
    // SAFETY: the caller's promise.
    unsafe {
        fill_kept_port(record, sk);
        (*record).bytes_sent = sent.saturating_sub(again);
        (*record).bytes_received = received.saturating_sub(fin);
        (*record).srtt_us = srtt >> 3;
        (*record).error = error(sk);
    }
}

/// Puts the local port back that `skc_num` has lost at CLOSE.
///
/// # Safety
///
/// `record` must have been filled by [`fill`], and `sk` be a `struct inet_sock`.
#[inline(always)]
pub(crate) unsafe fn fill_kept_port(record: *mut TcpRecord, sk: *const u8) {
    let port = u16::from_be(member(sk, Offset::InetSport).unwrap_or(0));
    if port != 0 {
        // SAFETY: the caller's promise.
        unsafe { (*record).local_port = port };
    }
}

/// An address as the kernel keeps it: words in network order.
pub(crate) type Address = [u32; 4];

/// Writes an address in words: BPF has no unaligned stores, and what the compiler only knows to
/// be bytes it writes byte by byte.
///
/// # Safety
///
/// `to` must be an address of a record or a key, writable.
#[inline(always)]
pub(crate) unsafe fn set_address(to: *mut [u8; 16], address: Address) {
    // SAFETY: the caller's promise; addresses are at multiples of 8 in records and keys, which are
    // aligned to 8.
    unsafe { to.cast::<Address>().write(address) };
}

#[inline(always)]
pub(crate) const fn widen(v4: u32) -> Address {
    [v4, 0, 0, 0]
}

/// A record that knows no more than which socket.
///
/// # Safety
///
/// `record` must be writable for a whole `TcpRecord`; every field but `task` is written.
#[inline(always)]
pub(crate) unsafe fn fill_empty(
    record: *mut TcpRecord,
    header: RecordHeader,
    sk: *const u8,
    (old_state, new_state): (u8, u8),
) {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).header = header;
        (*record).sk = sk as u64;
        (*record).cookie = 0;
        set_address(&raw mut (*record).local_addr, [0; 4]);
        set_address(&raw mut (*record).remote_addr, [0; 4]);
        (*record).local_port = 0;
        (*record).remote_port = 0;
        (*record).family = 0;
        (*record).old_state = old_state;
        (*record).new_state = new_state;
        (*record).netns = 0;
        (*record).error = 0;
        (*record).srtt_us = 0;
        (*record).padding = 0;
        (*record).bytes_sent = 0;
        (*record).bytes_received = 0;
    }
}
