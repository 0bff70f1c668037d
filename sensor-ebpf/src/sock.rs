//! Reads of a `struct sock`: addresses, ports, byte counts and error.

use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{RecordHeader, TcpRecord};

use crate::globals::count;
use crate::kernel::{Probed, Structure, read_member, untyped};

pub(crate) const AF_INET: u16 = 2;
pub(crate) const IPPROTO_TCP: u16 = 6;

/// TCP states: `include/net/tcp_states.h`.
pub(crate) const TCP_ESTABLISHED: u8 = 1;
pub(crate) const TCP_SYN_SENT: u8 = 2;
pub(crate) const TCP_SYN_RECV: u8 = 3;
pub(crate) const TCP_FIN_WAIT1: u8 = 4;
pub(crate) const TCP_CLOSE: u8 = 7;
pub(crate) const TCP_LAST_ACK: u8 = 9;
pub(crate) const TCP_LISTEN: u8 = 10;

/// `include/net/sock.h: enum sock_flags`; set when the peer's FIN is received
/// (`net/ipv4/tcp_input.c: tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// Inode number of the network namespace of a socket; 0 if unknown. Also for pointers on which the
/// verifier allows no arithmetic.
#[inline(always)]
pub(crate) fn netns(sk: *const u8) -> u32 {
    let net = Probed(untyped(sk)).follow(Offset::SkNet);
    net.and_then(|net| net.get(Offset::NetInum)).unwrap_or(0)
}

/// Returns `sk_protocol`; 0 if unknown.
#[inline(always)]
pub(crate) fn protocol(sk: impl Structure) -> u16 {
    sk.get(Offset::SkProtocol).unwrap_or(0)
}

/// Returns `sk_err` as a positive errno; 0 if none or unknown.
#[inline(always)]
pub(crate) fn error(sk: impl Structure) -> u32 {
    sk.get::<i32>(Offset::SkErr).unwrap_or(0).unsigned_abs()
}

/// Fills `record` with the members that are valid in every state. The caller fills the task.
///
/// # Safety
///
/// `record` must be writable for a whole `TcpRecord`; every field but `task` is written. It is
/// filled in place, since two records do not fit on the BPF stack of 512 bytes.
#[inline(always)]
pub(crate) unsafe fn fill(
    record: *mut TcpRecord,
    header: RecordHeader,
    (address, sk): (*const u8, impl Structure),
    states: (u8, u8),
) {
    // SAFETY: the caller's contract.
    unsafe { fill_empty(record, header, address, states) };
    let Some(family) = sk.get(Offset::SkFamily) else {
        count(LossCounter::ReadFailed);
        return;
    };
    let (local, remote) = if family == AF_INET {
        let v4 = |field| from_v4(sk.get(field).unwrap_or(0));
        (v4(Offset::SkRcvSaddr), v4(Offset::SkDaddr))
    } else {
        (v6_address(sk, Offset::SkV6RcvSaddr), v6_address(sk, Offset::SkV6Daddr))
    };
    // SAFETY: the caller's contract.
    unsafe {
        (*record).family = family;
        (*record).cookie = sk.get(Offset::SkCookie).unwrap_or(0);
        (*record).remote_port = u16::from_be(sk.get(Offset::SkDport).unwrap_or(0));
        (*record).local_port = sk.get(Offset::SkNum).unwrap_or(0);
        set_address(&raw mut (*record).local_addr, local);
        set_address(&raw mut (*record).remote_addr, remote);
        if let Some(net) = sk.follow(Offset::SkNet) {
            (*record).netns = net.get(Offset::NetInum).unwrap_or(0);
        }
    }
}

/// Adds the final byte counts, RTT and error, and the local port, which `skc_num` no longer has.
///
/// # Safety
///
/// `record` must have been filled by [`fill`]. `tcp` must be the socket as a `struct tcp_sock`.
#[inline(always)]
pub(crate) unsafe fn fill_close(record: *mut TcpRecord, tcp: impl Structure) {
    let sent: u64 = tcp.get(Offset::TcpBytesSent).unwrap_or(0);
    let retransmitted: u64 = tcp.get(Offset::TcpBytesRetrans).unwrap_or(0);
    let received: u64 = tcp.get(Offset::TcpBytesReceived).unwrap_or(0);
    let srtt: u32 = tcp.get(Offset::TcpSrttUs).unwrap_or(0);
    let flags: u64 = tcp.get(Offset::SkFlags).unwrap_or(0);
    // `bytes_received` counts the FIN as a byte (`net/ipv4/tcp_input.c: tcp_rcv_nxt_update`).
    let fin = u64::from(flags & SOCK_DONE != 0);
    // SAFETY: the caller's contract.
    unsafe {
        restore_local_port(record, tcp);
        (*record).bytes_sent = sent.saturating_sub(retransmitted);
        (*record).bytes_received = received.saturating_sub(fin);
        (*record).srtt_us = srtt >> 3;
        (*record).error = error(tcp);
    }
}

/// Restores the local port from `inet_sport`, since `skc_num` is 0 at CLOSE
/// (`net/ipv4/inet_hashtables.c: __inet_put_port`).
///
/// # Safety
///
/// `record` must have been filled by [`fill`]. `inet` must be the socket as a `struct inet_sock`.
#[inline(always)]
pub(crate) unsafe fn restore_local_port(record: *mut TcpRecord, inet: impl Structure) {
    let port = u16::from_be(inet.get(Offset::InetSport).unwrap_or(0));
    if port != 0 {
        // SAFETY: the caller's contract.
        unsafe { (*record).local_port = port };
    }
}

/// Returns the address of the MPTCP socket that a TCP socket is a subflow of; 0 for others.
#[inline(always)]
pub(crate) fn mptcp(tcp: impl Structure) -> u64 {
    if !tcp.get::<bool>(Offset::TcpIsMptcp).unwrap_or(false) {
        return 0;
    }
    let context: u64 = tcp.get(Offset::IcskUlpData).unwrap_or(0);
    read_member(context as *const u8, Offset::MptcpConn).unwrap_or(0)
}

/// True if a socket that connects is being restored (`TCP_REPAIR`, `net/ipv4/tcp.c`): whoever
/// restores a connection first selects the queues whose sequence numbers it sets.
#[inline(always)]
pub(crate) fn is_restored(tcp: impl Structure) -> bool {
    tcp.get::<u8>(Offset::TcpRepairQueue).unwrap_or(0) != 0
}

/// Address in the kernel's form: words in network order.
pub(crate) type Address = [u32; 4];

/// Writes an address in words. BPF has no unaligned stores, so the compiler would write a byte
/// array byte by byte.
///
/// # Safety
///
/// `to` must be a writable address member of a record or a key.
#[inline(always)]
pub(crate) unsafe fn set_address(to: *mut [u8; 16], address: Address) {
    // SAFETY: the caller's contract. Addresses are at multiples of 8 in records and keys, which are
    // aligned to 8.
    unsafe { to.cast::<Address>().write(address) };
}

/// Reads an IPv6 address in words: the verifier requires each load to be aligned to its size.
#[inline(always)]
fn v6_address(sk: impl Structure, field: Offset) -> Address {
    sk.get(field).unwrap_or([0; 4])
}

/// Returns an IPv4 address in the form of [`TcpRecord`]: in the first four bytes.
#[inline(always)]
pub(crate) const fn from_v4(v4: u32) -> Address {
    [v4, 0, 0, 0]
}

/// Fills `record` with the address of the socket and the states only.
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
    // SAFETY: the caller's contract.
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
        (*record).mptcp = 0;
    }
}
