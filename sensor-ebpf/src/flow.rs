//! UDP flows and the owners of UDP sockets: the two maps that the UDP programs share.
//!
//! `UDP_FLOWS` counts each flow, keyed by socket and remote address, and each flow is emitted once.
//! The tasks that use a socket are kept in its socket storage, which is never evicted and ends with
//! the socket (`Documentation/bpf/map_sk_storage.rst`).

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::LruHashMap;
use sensor_ebpf::maps::UDP_FLOWS_MAX;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{
    FlowCounts, FlowKey, RecordKind, TaskIds, UdpOwnerSource, UdpRecord, UdpReleaseRecord,
};

use crate::emit::{self, Ledger};
use crate::globals::add;
use crate::kernel::read_member;
use crate::sock::{Address, set_address};
use crate::task;

#[map]
pub(crate) static UDP_FLOWS: LruHashMap<FlowKey, FlowCounts> =
    LruHashMap::with_max_entries(UDP_FLOWS_MAX, 0);

#[btf_map]
static UDP_SOCKETS: SkStorage<UdpSocket> = SkStorage::new();

/// Maximum number of senders that are distinguished per socket. If more use it at the same time, a
/// new flow may be attributed to the wrong one.
const SENDERS_MAX: usize = 4;

/// Attempts to create the storage of a socket.
const CREATE_ATTEMPTS: u32 = 3;

/// Storage of a UDP socket, zeroed at creation.
#[repr(C)]
pub(crate) struct UdpSocket {
    /// Socket cookie; 0 until it has a flow.
    pub(crate) cookie: u64,
    /// Number of inbound flows without a resolved owner; too high after a flow was evicted.
    pub(crate) unresolved_inbound: u64,
    /// Number of outbound flows without a resolved owner.
    pub(crate) unresolved_outbound: u64,
    /// Best known owner, for flows without one of their own.
    owner: TaskIds,
    /// Tasks that sent, in order of their first datagram; once it is full, the latest first.
    senders: [TaskIds; SENDERS_MAX],
    /// Source of `owner`, a [`UdpOwnerSource`].
    owner_source: u32,
    /// 1 once a reader requested the sender's address: readers are then known per flow.
    pub(crate) reads_with_address: u32,
}

/// Returns the storage of a socket, and creates it if `create` (`bpf_sk_storage_get`, v5.2).
///
/// # Safety
///
/// `sk` must be a pointer that the verifier accepts as a socket in the calling program.
#[inline(always)]
pub(crate) unsafe fn socket_storage(sk: *mut c_void, create: bool) -> Option<*mut UdpSocket> {
    let flags = if create { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    let storage = (&raw const UDP_SOCKETS).cast_mut().cast();
    // Of two CPUs that create it concurrently, one fails, and finds the other's at its next
    // attempt.
    for _attempt in 0..if create { CREATE_ATTEMPTS } else { 1 } {
        // SAFETY: the map is a socket storage; the socket is valid by the caller's contract.
        let found = unsafe { bpf_sk_storage_get(storage, sk, ptr::null_mut(), flags) };
        if !found.is_null() {
            return Some(found.cast());
        }
    }
    None
}

/// Records the current task as the owner, unless a better source named one. A kernel thread acts on
/// behalf of another task.
///
/// # Safety
///
/// `socket` must come from [`socket_storage`], and the current task must be the actor.
#[inline(always)]
pub(crate) unsafe fn set_owner(socket: *mut UdpSocket, source: UdpOwnerSource) {
    // SAFETY: the caller's contract.
    unsafe {
        if (*socket).owner_source <= source as u32 && !task::is_kernel_thread() {
            task::fill_current(&raw mut (*socket).owner);
            (*socket).owner_source = source as u32;
        }
    }
}

/// Records the current task, whose process is `tgid`, as a sender. Returns true if it is new to the
/// socket.
///
/// # Safety
///
/// As for [`set_owner`].
#[inline(always)]
pub(crate) unsafe fn record_sender(socket: *mut UdpSocket, tgid: u32) -> bool {
    // SAFETY: the caller's contract; the copies stay inside the array.
    unsafe {
        let senders = (&raw mut (*socket).senders).cast::<TaskIds>();
        for slot in 0..SENDERS_MAX {
            if (*senders.add(slot)).tgid == tgid {
                return false;
            }
        }
        // Another CPU may be reading the slot of a concurrent sender, so none is moved while there
        // is a free one.
        for slot in 0..SENDERS_MAX {
            if (*senders.add(slot)).tgid == 0 {
                task::fill_current(senders.add(slot));
                set_owner(socket, UdpOwnerSource::FirstIo);
                return true;
            }
        }
        for slot in (1..SENDERS_MAX).rev() {
            copy_task(senders.add(slot), senders.add(slot.wrapping_sub(1)));
        }
        task::fill_current(senders);
        set_owner(socket, UdpOwnerSource::FirstIo);
        true
    }
}

/// Emits the record of a new flow.
///
/// # Safety
///
/// `socket` must come from [`socket_storage`], and `flow` from [`UDP_FLOWS`].
#[inline(always)]
pub(crate) unsafe fn emit_flow(
    socket: *mut UdpSocket,
    flow: *mut FlowCounts,
    key: &FlowKey,
    local: (Address, u16),
    netns: u32,
) {
    // SAFETY: the caller's contract; the entry is a whole UdpRecord, filled in full.
    unsafe {
        let inbound = (*flow).inbound != 0;
        let FlowOwner { task, source, is_final } = flow_owner(socket, inbound);
        let on_cpu_tgid = if inbound { 0 } else { current_tgid() };
        (*socket).cookie = key.cookie;
        let emitted = emit::try_record::<UdpRecord>(Ledger::Udp, |record| {
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpFlow, source);
            (*record).header.boot_ns = (*flow).first_boot_ns;
            copy_key(&raw mut (*record).key, key);
            copy_task(&raw mut (*record).task, task);
            set_address(&raw mut (*record).local_addr, local.0);
            (*record).local_port = local.1;
            (*record).inbound = inbound.into();
            (*record).owner_resolved = is_final.into();
            (*record).netns = netns;
            (*record).on_cpu_tgid = on_cpu_tgid;
            (*record).padding = 0;
        });
        if !emitted {
            return;
        }
        (*flow).emitted = 1;
        (*flow).owner_resolved = is_final.into();
        match (is_final, inbound) {
            (true, _) => {}
            (false, true) => add(&raw mut (*socket).unresolved_inbound, 1),
            (false, false) => add(&raw mut (*socket).unresolved_outbound, 1),
        }
    }
}

/// Owner of a new flow, final or a guess.
struct FlowOwner {
    task: *const TaskIds,
    /// Source of `task`, a [`UdpOwnerSource`].
    source: u32,
    /// False if `task` is a guess, until the task that acts is observed.
    is_final: bool,
}

/// Returns the owner of a new flow. A sent flow belongs to the current task if that is known to
/// send on this socket, else to the task that connected the socket. The current task need not be
/// the sender: the datagram may have been queued to a firewall in user space (`NFQUEUE`). A
/// received flow belongs to the task that reads it first, later.
///
/// # Safety
///
/// `socket` must come from [`socket_storage`].
#[inline(always)]
unsafe fn flow_owner(socket: *mut UdpSocket, inbound: bool) -> FlowOwner {
    // SAFETY: the caller's contract; members are read with a check of each address.
    unsafe {
        let senders = (&raw const (*socket).senders).cast::<TaskIds>();
        let (task, source) = (&raw const (*socket).owner, (*socket).owner_source);
        if inbound {
            return FlowOwner { task, source, is_final: false };
        }
        let sent = UdpOwnerSource::Sent as u32;
        let current = current_tgid();
        for slot in 0..SENDERS_MAX {
            let task = senders.add(slot);
            if (*task).tgid == current && current != 0 {
                return FlowOwner { task, source: sent, is_final: true };
            }
        }
        if source < sent && (*senders).tgid != 0 {
            return FlowOwner { task: senders, source: sent, is_final: false };
        }
        FlowOwner { task, source, is_final: source == sent }
    }
}

/// Process id of the current task, for programs without `bpf_get_current_pid_tgid`; 0 if unknown.
#[inline(always)]
fn current_tgid() -> u32 {
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    read_member(task, Offset::TaskTgid).unwrap_or(0)
}

/// Emits the current task as the owner of the flow `key`. Port 0 stands for every flow of the
/// socket that has no resolved owner and began in the same direction.
///
/// # Safety
///
/// As for [`set_owner`].
#[inline(always)]
pub(crate) unsafe fn emit_owner(key: &FlowKey, inbound: bool) {
    let source = if inbound { UdpOwnerSource::FirstIo } else { UdpOwnerSource::Sent };
    emit::record::<UdpRecord>(Ledger::Udp, |record| {
        // SAFETY: the entry is a whole UdpRecord, filled in full; the task is valid by contract.
        unsafe {
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpOwner, source as u32);
            copy_key(&raw mut (*record).key, key);
            task::fill_current(&raw mut (*record).task);
            set_address(&raw mut (*record).local_addr, [0; 4]);
            (*record).local_port = 0;
            (*record).inbound = inbound.into();
            (*record).owner_resolved = 1;
            (*record).netns = 0;
            (*record).on_cpu_tgid = 0;
            (*record).padding = 0;
        }
    });
}

/// Returns a key for all flows of a socket: port 0, no address.
#[inline(always)]
pub(crate) const fn all_flows(cookie: u64) -> FlowKey {
    FlowKey { cookie, remote_addr: [0; 16], remote_port: 0, local_port: 0, padding: [0; 2] }
}

/// Writes the remote address of a key in words: BPF has no unaligned stores.
#[inline(always)]
pub(crate) fn set_remote_addr(key: &mut FlowKey, address: Address) {
    // SAFETY: the address is at a multiple of 8 in a key that is aligned to 8.
    unsafe { set_address(&raw mut key.remote_addr, address) };
}

/// Emits the end of a socket and its flows.
#[inline(always)]
pub(crate) fn emit_release(cookie: u64) {
    emit::record::<UdpReleaseRecord>(Ledger::Udp, |record| {
        let header = emit::header::<UdpReleaseRecord>(RecordKind::UdpRelease, 0);
        // SAFETY: the entry is a whole UdpReleaseRecord.
        unsafe { record.write(UdpReleaseRecord { header, cookie }) };
    });
}

/// Copies a task in words: BPF has no unaligned stores.
///
/// # Safety
///
/// Both must be valid and aligned.
#[inline(always)]
unsafe fn copy_task(to: *mut TaskIds, from: *const TaskIds) {
    const WORDS: usize = size_of::<TaskIds>() / 8;
    // SAFETY: the caller's contract; TaskIds is aligned to 8 and has no padding.
    unsafe { to.cast::<[u64; WORDS]>().write(from.cast::<[u64; WORDS]>().read()) };
}

/// Copies a key in words, like [`copy_task`].
///
/// # Safety
///
/// `to` must be valid and aligned.
#[inline(always)]
pub(crate) unsafe fn copy_key(to: *mut FlowKey, from: &FlowKey) {
    const WORDS: usize = size_of::<FlowKey>() / 8;
    // SAFETY: the caller's contract; FlowKey is aligned to 8 and has no padding.
    unsafe { to.cast::<[u64; WORDS]>().write(ptr::from_ref(from).cast::<[u64; WORDS]>().read()) };
}
