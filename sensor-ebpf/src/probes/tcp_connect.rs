//! A connect that fails before a SYN is sent: no route, an unreachable or prohibited network, no
//! local address. Such a socket never leaves CLOSE, so the state program does not see it.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use sensor_ebpf::record::{RecordKind, TcpRecord};

use crate::emit::{self, Ledger};
use crate::kernel::Probed;
use crate::sock::{self, AF_INET, IPPROTO_TCP, TCP_CLOSE};
use crate::task;

/// Hook: `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`,
/// `net/ipv4/tcp_ipv4.c` (`struct sockaddr_unsized *` from v6.19); the result is argument 3. Also
/// called for an IPv4-mapped address of an IPv6 socket.
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_v4_connect_fexit(ctx: FExitContext) -> i32 {
    let (sk, to, result): (*const u8, *const u8, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    if result < 0 {
        failed(sk, to, result.unsigned_abs());
    }
    0
}

/// Hook: `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`,
/// `net/ipv6/tcp_ipv6.c`; as above.
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_v6_connect_fexit(ctx: FExitContext) -> i32 {
    let (sk, to, result): (*const u8, *const u8, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    if result < 0 {
        failed(sk, to, result.unsigned_abs());
    }
    0
}

/// `struct sockaddr_in` and `struct sockaddr_in6`, `include/uapi/linux/in.h` and `in6.h`.
mod sockaddr {
    pub(super) const FAMILY: usize = 0;
    pub(super) const PORT: usize = 2;
    pub(super) const V4: usize = 4;
    pub(super) const V6: usize = 8;
}

#[inline(always)]
fn failed(sk: *const u8, to: *const u8, error: u32) {
    let socket = Probed(sk);
    if sock::protocol(socket) != IPPROTO_TCP {
        return;
    }
    let family: u16 = read(to, sockaddr::FAMILY);
    let remote = if family == AF_INET {
        sock::widen(read(to, sockaddr::V4))
    } else {
        read(to, sockaddr::V6)
    };
    // An IPv6 socket's connect to a mapped address has passed through tcp_v4_connect already.
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
                // The local end of an IPv6 socket that calls IPv4: not chosen yet.
                sock::set_address(&raw mut (*record).local_addr, [0; 4]);
                (*record).family = family;
            }
            sock::set_address(&raw mut (*record).remote_addr, remote);
            (*record).remote_port = u16::from_be(read(to, sockaddr::PORT));
            (*record).error = error;
        }
    });
}

/// A member of the address that was called; zero where it cannot be read.
#[inline(always)]
fn read<T: Default>(to: *const u8, at: usize) -> T {
    // SAFETY: `bpf_probe_read_kernel` checks every address and fails instead of faulting.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(to.wrapping_add(at).cast()) }
        .unwrap_or_default()
}
