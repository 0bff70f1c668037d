//! Datagrams that are counted and then refused.
//!
//! Every `cgroup_skb` program of a socket's cgroups runs for a packet, also after one of them has
//! refused it (`kernel/bpf/cgroup.c: bpf_prog_run_array_cg`), and none learns of the others' result.
//! So this object counts a datagram, and takes it back where the call that sent it then fails with
//! `EPERM` (`IPAddressDeny=`, `systemd.resource-control(5)`). Both happen in the sender, one after
//! the other. Netfilter drops a packet before the `cgroup_skb` programs: it is never counted.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use sensor_ebpf::record::{FlowKey, RecordKind, UdpRefusedRecord};

use crate::emit::{self, Ledger};
use crate::flow::{UDP_FLOWS, UdpSocket, copy_key};
use crate::globals::add;
use crate::packet::Packet;

/// `include/uapi/asm-generic/errno-base.h`.
const EPERM: i32 = 1;

/// Latest datagram that this CPU sent and whose call has not returned yet.
#[repr(C)]
struct SentDatagram {
    /// Address of the `task_struct` of the sender; 0 for none.
    task: u64,
    key: FlowKey,
    bytes: u64,
    packets: u64,
}

/// A sender that moves to another CPU within its call finds no datagram, and takes none back.
#[map]
static SENT_DATAGRAM: PerCpuArray<SentDatagram> = PerCpuArray::with_max_entries(1, 0);

/// Notes a datagram of the current task that was counted.
///
/// # Safety
///
/// Must be called from the program that counted it.
#[inline(always)]
pub(crate) unsafe fn note_sent(key: &FlowKey, packet: &Packet) {
    let Some(sent) = SENT_DATAGRAM.get_ptr_mut(0) else { return };
    // SAFETY: the element of this CPU, aligned, valid for the program's life.
    unsafe {
        (*sent).task = bpf_get_current_task();
        copy_key(&raw mut (*sent).key, key);
        (*sent).bytes = packet.payload.into();
        (*sent).packets = packet.datagrams.into();
    }
}

/// Forgets the noted datagram, since its call has succeeded.
#[inline(always)]
pub(crate) fn note_left() {
    let Some(sent) = SENT_DATAGRAM.get_ptr_mut(0) else { return };
    // SAFETY: as in `note_sent`.
    unsafe { (*sent).task = 0 };
}

/// Takes the noted datagram back, if the current task sent it on this socket and the call failed
/// with `EPERM`. Returns true if so. Emits a record if the flow has no other datagram.
///
/// # Safety
///
/// `socket` must come from [`crate::flow::socket_storage`].
#[inline(always)]
pub(crate) unsafe fn undo_refused(socket: *mut UdpSocket, result: i32) -> bool {
    let Some(sent) = SENT_DATAGRAM.get_ptr_mut(0) else { return false };
    // SAFETY: the element of this CPU, and values of the maps; valid for the program's life.
    unsafe {
        let is_own = (*sent).task == bpf_get_current_task() && (*sent).task != 0;
        (*sent).task = 0;
        if result != -EPERM || !is_own || (*sent).key.cookie != (*socket).cookie {
            return false;
        }
        let Some(flow) = UDP_FLOWS.get_ptr_mut(&*ptr::addr_of!((*sent).key)) else { return false };
        add(&raw mut (*flow).bytes_sent, (*sent).bytes.wrapping_neg());
        add(&raw mut (*flow).packets_sent, (*sent).packets.wrapping_neg());
        let others = (*flow).packets_sent | (*flow).packets_received;
        if others == 0 && (*flow).refused == 0 {
            (*flow).refused = u16::from(emit_refused(&raw const (*sent).key));
        }
    }
    true
}

/// # Safety
///
/// `key` must be a valid key in a map value.
#[inline(always)]
unsafe fn emit_refused(key: *const FlowKey) -> bool {
    emit::try_record::<UdpRefusedRecord>(Ledger::Udp, move |record| {
        // SAFETY: the entry is a whole UdpRefusedRecord; the key is valid by contract.
        unsafe {
            (*record).header = emit::header::<UdpRefusedRecord>(RecordKind::UdpRefused, 0);
            copy_key(&raw mut (*record).key, &*key);
        }
    })
}
