//! Answers of DNS: what a name resolved to, as this host was told.
//!
//! A datagram comes here when it is from port 53 and was delivered to a UDP socket that is connected
//! to that server, or has sent to it. So nobody can put names into the agent by sending answers to a
//! host that did not ask. Not defended: a server that lies, somebody on the path to it, and somebody
//! who guesses server and port while the socket lives; the transaction id is checked by the resolver
//! behind the socket, not here.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use sensor_ebpf::maps::{DNS_ANSWERS_PER_SECOND, LossCounter};
use sensor_ebpf::record::{DNS_MESSAGE_LEN, DnsRecord, RecordKind};

use crate::emit::{self, Ledger, monotonic_ns};
use crate::globals::{add, count};
use crate::packet::Packet;
use crate::sock::set_address;

/// Port of the server (RFC 1035, section 4.2).
pub(crate) const PORT: u16 = 53;

/// Bytes of a message before its first question (RFC 1035, section 4.1.1).
const HEADER_LEN: u32 = 12;

/// Of its second 16 bits: QR, OPCODE and RCODE.
const KIND_MASK: u16 = 0xf80f;
/// A response to a standard query, without an error.
const KIND_ANSWER: u16 = 0x8000;

/// Answers of the second that is.
#[repr(C)]
struct Budget {
    second: u64,
    used: u64,
}

#[map]
static DNS_BUDGET: Array<Budget> = Array::with_max_entries(1, 0);

/// Puts a message on the ring if it is an answer that names something, and the second's budget is not
/// used up.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program, `packet` what it holds.
#[inline(always)]
pub(crate) unsafe fn tell(skb: *mut __sk_buff, packet: &Packet) {
    // SAFETY: a member of the context.
    let offset = unsafe { (*skb).len }.wrapping_sub(packet.payload);
    let wire_len = packet.payload;
    if wire_len <= HEADER_LEN {
        return;
    }
    // Id, kind, number of questions, number of answers.
    let mut head = [0_u16; 4];
    let (to, len) = ((&raw mut head).cast(), size_of::<[u16; 4]>() as u32);
    // SAFETY: the destination is writable for that many bytes; the kernel checks the source.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, len) };
    if read != 0 || u16::from_be(head[1]) & KIND_MASK != KIND_ANSWER || head[3] == 0 {
        return;
    }
    if !within_budget() {
        return count(LossCounter::DnsOverRate);
    }
    emit::record::<DnsRecord>(Ledger::Dns, |record| {
        let len = bounded(wire_len);
        // SAFETY: the entry is a whole DnsRecord; what of the message is not written is not read,
        // since `message_len` says how much is.
        unsafe {
            let to = (&raw mut (*record).message).cast();
            let read = bpf_skb_load_bytes(skb.cast(), offset, to, len);
            (*record).header = emit::header::<DnsRecord>(RecordKind::DnsAnswer, 0);
            set_address(&raw mut (*record).server, packet.remote.0);
            (*record).wire_len = wire_len;
            (*record).message_len = if read == 0 { len } else { 0 };
        }
    });
}

/// Bytes that are read of so many, which are at least one: in a form in which the verifier sees both
/// bounds. It sees them of the number less one, which the compiler must not know to be that.
#[inline(always)]
fn bounded(wire_len: u32) -> u32 {
    const LAST: u64 = (DNS_MESSAGE_LEN - 1) as u64;
    let mut last = u64::from(wire_len).wrapping_sub(1);
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) last, options(pure, nomem, nostack)) };
    let last = if last < LAST { last } else { LAST };
    last.wrapping_add(1) as u32
}

/// Whether this second has room for one more. CPUs that begin a second at once may let a few more
/// pass.
#[inline(always)]
fn within_budget() -> bool {
    let Some(budget) = DNS_BUDGET.get_ptr_mut(0) else { return false };
    // 2^30 ns: about a second.
    let second = monotonic_ns() >> 30;
    // SAFETY: `budget` points to the array's element, aligned, valid for the program's life; its
    // members are read and written whole, and the count is added to by one instruction.
    unsafe {
        if (&raw const (*budget).second).read_volatile() != second {
            (&raw mut (*budget).second).write_volatile(second);
            (&raw mut (*budget).used).write_volatile(0);
        }
        let used = &raw mut (*budget).used;
        if used.read_volatile() >= DNS_ANSWERS_PER_SECOND {
            return false;
        }
        add(used, 1);
    }
    true
}
