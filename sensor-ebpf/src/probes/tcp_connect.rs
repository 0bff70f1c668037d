//! Connects that fail before a SYN is sent: no route, an unreachable or prohibited network, or no
//! local address. Such a socket never leaves CLOSE, so no state change reports it.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use sensor_ebpf::record::{RecordKind, TcpRecord};

use crate::emit::{self, Ledger};
use crate::kernel::Probed;
use crate::sock::{self, AF_INET, IPPROTO_TCP, TCP_CLOSE};
use crate::task;

/// Hook: `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`,
/// `net/ipv4/tcp_ipv4.c: tcp_v4_connect` (`struct sockaddr_unsized *` from v6.19); the result is
/// argument 3.
///
/// Also called for an IPv4-mapped address of an IPv6 socket (`connect(2)`, `ip(7)`). fexit: v5.5.
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_v4_connect_fexit(ctx: FExitContext) -> i32 {
    let (sk, addr, result): (*const u8, *const u8, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    if result < 0 {
        emit_failed(sk, addr, result.unsigned_abs());
    }
    0
}

/// Hook: `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`,
/// `net/ipv6/tcp_ipv6.c: tcp_v6_connect` (`struct sockaddr_unsized *` from v6.19); the result is
/// argument 3.
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_v6_connect_fexit(ctx: FExitContext) -> i32 {
    let (sk, addr, result): (*const u8, *const u8, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    if result < 0 {
        emit_failed(sk, addr, result.unsigned_abs());
    }
    0
}

/// Offsets in `struct sockaddr_in` and `struct sockaddr_in6`, `include/uapi/linux/in.h` and
/// `in6.h`.
mod sockaddr {
    pub(super) const FAMILY: usize = 0;
    pub(super) const PORT: usize = 2;
    pub(super) const V4: usize = 4;
    pub(super) const V6: usize = 8;
}

#[inline(always)]
fn emit_failed(sk: *const u8, addr: *const u8, error: u32) {
    let socket = Probed(sk);
    if sock::protocol(socket) != IPPROTO_TCP {
        return;
    }
    let family: u16 = read_sockaddr(addr, sockaddr::FAMILY);
    let remote = if family == AF_INET {
        sock::from_v4(read_sockaddr(addr, sockaddr::V4))
    } else {
        read_sockaddr(addr, sockaddr::V6)
    };
    // A connect of an IPv6 socket to a mapped address was already reported at tcp_v4_connect.
    if family != AF_INET && remote[0] == 0 && remote[1] == 0 && remote[2] == 0xffff_u32.to_be() {
        return;
    }
    emit::record::<TcpRecord>(Ledger::Tcp, move |record| {
        let header = emit::header::<TcpRecord>(RecordKind::TcpConnectFailed, error);
        // SAFETY: `record` is the reserved entry, a whole TcpRecord.
        unsafe {
            sock::fill(record, header, (sk, socket), (TCP_CLOSE, TCP_CLOSE));
            task::fill_current(&raw mut (*record).task);
            if (*record).family != family {
                // An IPv6 socket that connects to IPv4 has no local address yet.
                sock::set_address(&raw mut (*record).local_addr, [0; 4]);
                (*record).family = family;
            }
            sock::set_address(&raw mut (*record).remote_addr, remote);
            (*record).remote_port = u16::from_be(read_sockaddr(addr, sockaddr::PORT));
            (*record).error = error;
        }
    });
}

/// Reads a member of the destination address; zero if it cannot be read.
#[inline(always)]
fn read_sockaddr<T: Default>(addr: *const u8, at: usize) -> T {
    // SAFETY: `bpf_probe_read_kernel` checks every address and fails instead of faulting.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(addr.wrapping_add(at).cast()) }
        .unwrap_or_default()
}
