//! DNS responses that this host received: the addresses that names resolved to.
//!
//! The caller passes a datagram from port 53 whose UDP socket is connected to that server or has
//! sent to it. Unsolicited responses are therefore ignored. Not defended against: a malicious
//! server, an on-path attacker, and an attacker who guesses server and port while the socket
//! exists. The transaction id is checked by the resolver that owns the socket, not here.

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

/// Server port (RFC 1035, section 4.2).
pub(crate) const PORT: u16 = 53;

/// Length of the message header, bytes (RFC 1035, section 4.1.1).
const HEADER_LEN: u32 = 12;

/// QR, OPCODE and RCODE in the second 16 bits of the header.
const FLAGS_MASK: u16 = 0xf80f;
/// Flags of a response to a standard query, without an error.
const FLAGS_RESPONSE: u16 = 0x8000;

/// Number of responses emitted in the current second.
#[repr(C)]
struct Budget {
    second: u64,
    used: u64,
}

#[map]
static DNS_BUDGET: Array<Budget> = Array::with_max_entries(1, 0);

/// Emits a message if it is a response with answers and the budget of this second is not used up.
///
/// # Safety
///
/// `skb` must be the context of a `cgroup_skb` program, and `packet` parsed from it.
#[inline(always)]
pub(crate) unsafe fn emit_response(skb: *mut __sk_buff, packet: &Packet) {
    // SAFETY: a member of the context.
    let offset = unsafe { (*skb).len }.wrapping_sub(packet.payload);
    let wire_len = packet.payload;
    if wire_len <= HEADER_LEN {
        return;
    }
    // Id, flags, QDCOUNT, ANCOUNT.
    let mut head = [0_u16; 4];
    let (to, len) = ((&raw mut head).cast(), size_of::<[u16; 4]>() as u32);
    // SAFETY: the destination is writable for that many bytes; the kernel checks the source.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, len) };
    if read != 0 || u16::from_be(head[1]) & FLAGS_MASK != FLAGS_RESPONSE || head[3] == 0 {
        return;
    }
    if !take_budget() {
        return count(LossCounter::DnsOverRate);
    }
    emit::record::<DnsRecord>(Ledger::Dns, |record| {
        let len = bounded(wire_len);
        // SAFETY: the entry is a whole DnsRecord. Unwritten bytes of `message` are not read, since
        // `message_len` bounds the reader.
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

/// Limits a length of at least 1 to the size of the record's buffer, so that the verifier knows
/// both bounds. It tracks them for the length minus 1, a relation that the compiler must not
/// simplify.
#[inline(always)]
fn bounded(wire_len: u32) -> u32 {
    const LAST: u64 = (DNS_MESSAGE_LEN - 1) as u64;
    let mut last = u64::from(wire_len).wrapping_sub(1);
    // SAFETY: emits no instruction; it only hides the value from the optimizer.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) last, options(pure, nomem, nostack)) };
    let last = if last < LAST { last } else { LAST };
    last.wrapping_add(1) as u32
}

/// Takes one answer from the budget of this second; false if it is used up. CPUs that begin a
/// second at the same time may let a few more pass.
#[inline(always)]
fn take_budget() -> bool {
    let Some(budget) = DNS_BUDGET.get_ptr_mut(0) else { return false };
    // 2^30 ns: about a second.
    let second = monotonic_ns() >> 30;
    // SAFETY: `budget` points to the array's element, aligned, valid for the program's life. Its
    // members are read and written whole, and one instruction increments the count.
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
