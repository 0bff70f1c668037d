//! UDP flows and the owners of UDP sockets: the two tables that the UDP programs share.
//!
//! A flow is counted in `UDP_FLOWS`, keyed by socket and remote end, and told once. Who acts on a
//! socket is kept with the socket itself, where nothing evicts it and nothing outlives it.

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
use crate::kernel::member;
use crate::sock::{Address, set_address};
use crate::task;

#[map]
pub(crate) static UDP_FLOWS: LruHashMap<FlowKey, FlowCounts> =
    LruHashMap::with_max_entries(UDP_FLOWS_MAX, 0);

#[btf_map]
static UDP_SOCKETS: SkStorage<UdpSocket> = SkStorage::new();

/// Senders of a socket that are told apart. More that share one at the same instant may be taken
/// for each other when they begin a flow.
const SENDERS: usize = 4;

/// How often what is kept with a socket is asked for when it is to be made.
const TRIES: u32 = 3;

/// What is known of a UDP socket. Zeroed when it is made.
#[repr(C)]
pub(crate) struct UdpSocket {
    /// Socket cookie; 0 until it has a flow.
    pub(crate) cookie: u64,
    /// Flows that began with a datagram received, and are not settled; may be too high where a
    /// flow was evicted.
    pub(crate) unread: u64,
    /// Flows that began with a datagram sent, and are not settled.
    pub(crate) unsent: u64,
    /// The best known owner, for a flow of which no more is known.
    owner: TaskIds,
    /// Tasks that sent, in the order in which they came; when it is full, the latest first.
    senders: [TaskIds; SENDERS],
    /// A [`UdpOwnerSource`]: how `owner` is known.
    owner_source: u32,
    /// 1 when a reader asked for the sender's address: then readers are known flow by flow.
    pub(crate) reads_addressed: u32,
}

/// What is kept with a socket, made if `create`.
///
/// # Safety
///
/// `sk` must be what the verifier takes for a socket in the calling program.
#[inline(always)]
pub(crate) unsafe fn socket(sk: *mut c_void, create: bool) -> Option<*mut UdpSocket> {
    let flags = if create { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    let storage = (&raw const UDP_SOCKETS).cast_mut().cast();
    // Two CPUs that make it at once hinder each other: the one that fails finds the other's then.
    for _try in 0..if create { TRIES } else { 1 } {
        // SAFETY: the map is a socket storage; the caller vouches for the socket.
        let found = unsafe { bpf_sk_storage_get(storage, sk, ptr::null_mut(), flags) };
        if !found.is_null() {
            return Some(found.cast());
        }
    }
    None
}

/// Notes the current task as the owner, unless a better source named one.
///
/// # Safety
///
/// `socket` must come from [`socket`], and the current task be the one that acts.
#[inline(always)]
pub(crate) unsafe fn own(socket: *mut UdpSocket, source: UdpOwnerSource) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*socket).owner_source <= source as u32 {
            task::fill_current(&raw mut (*socket).owner);
            (*socket).owner_source = source as u32;
        }
    }
}

/// Notes that the current task, whose process is `tgid`, sends; says whether it is new to the
/// socket.
///
/// # Safety
///
/// As for [`own`].
#[inline(always)]
pub(crate) unsafe fn sends(socket: *mut UdpSocket, tgid: u32) -> bool {
    // SAFETY: the caller's promise; the copies stay inside the array.
    unsafe {
        let senders = (&raw mut (*socket).senders).cast::<TaskIds>();
        for place in 0..SENDERS {
            if (*senders.add(place)).tgid == tgid {
                return false;
            }
        }
        // Another CPU may be reading the place of a sender that sends just now: none is moved while
        // there is room.
        for place in 0..SENDERS {
            if (*senders.add(place)).tgid == 0 {
                task::fill_current(senders.add(place));
                own(socket, UdpOwnerSource::FirstIo);
                return true;
            }
        }
        for place in (1..SENDERS).rev() {
            move_task(senders.add(place), senders.add(place.wrapping_sub(1)));
        }
        task::fill_current(senders);
        own(socket, UdpOwnerSource::FirstIo);
        true
    }
}

/// Puts the record of a new flow on the ring.
///
/// # Safety
///
/// `socket` must come from [`socket`], `flow` from [`UDP_FLOWS`].
#[inline(always)]
pub(crate) unsafe fn tell(
    socket: *mut UdpSocket,
    flow: *mut FlowCounts,
    key: &FlowKey,
    local: (Address, u16),
    netns: u32,
) {
    // SAFETY: the caller's promise; the entry is a whole UdpRecord, filled in full.
    unsafe {
        let inbound = (*flow).inbound != 0;
        let Owner { task, source, owner_resolved } = owner(socket, inbound);
        let on_cpu_tgid = if inbound { 0 } else { current_tgid() };
        (*socket).cookie = key.cookie;
        let emitted = emit::try_record::<UdpRecord>(Ledger::Udp, |record| {
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpFlow, source);
            (*record).header.boot_ns = (*flow).first_boot_ns;
            write_key(&raw mut (*record).key, key);
            move_task(&raw mut (*record).task, task);
            set_address(&raw mut (*record).local_addr, local.0);
            (*record).local_port = local.1;
            (*record).inbound = inbound.into();
            (*record).owner_resolved = owner_resolved.into();
            (*record).netns = netns;
            (*record).on_cpu_tgid = on_cpu_tgid;
            (*record).padding = 0;
        });
        if !emitted {
            return;
        }
        (*flow).emitted = 1;
        (*flow).owner_resolved = owner_resolved.into();
        match (owner_resolved, inbound) {
            (true, _) => {}
            (false, true) => add(&raw mut (*socket).unread, 1),
            (false, false) => add(&raw mut (*socket).unsent, 1),
        }
    }
}

/// Whose a new flow is.
struct Owner {
    task: *const TaskIds,
    /// A [`UdpOwnerSource`].
    source: u32,
    /// Whether that is so; otherwise it stands in until the task that acts is seen.
    owner_resolved: bool,
}

/// Whose a new flow is. Sent: the current task's, if it is known to send on this socket (it need
/// not be the sender, where the datagram had been queued to a firewall in user space), else that of
/// the task that connected the socket. Received: whose read comes first, later.
///
/// # Safety
///
/// `socket` must come from [`socket`].
#[inline(always)]
unsafe fn owner(socket: *mut UdpSocket, inbound: bool) -> Owner {
    // SAFETY: the caller's promise; members are read with a check of each address.
    unsafe {
        let senders = (&raw const (*socket).senders).cast::<TaskIds>();
        let (task, source) = (&raw const (*socket).owner, (*socket).owner_source);
        if inbound {
            return Owner { task, source, owner_resolved: false };
        }
        let sent = UdpOwnerSource::Sent as u32;
        let current = current_tgid();
        for place in 0..SENDERS {
            let task = senders.add(place);
            if (*task).tgid == current && current != 0 {
                return Owner { task, source: sent, owner_resolved: true };
            }
        }
        if source < sent && (*senders).tgid != 0 {
            return Owner { task: senders, source: sent, owner_resolved: false };
        }
        Owner { task, source, owner_resolved: source == sent }
    }
}

/// Process id of the current task, in a program that has no helper for it; 0 when it cannot be told.
#[inline(always)]
fn current_tgid() -> u32 {
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    member(task, Offset::TaskTgid).unwrap_or(0)
}

/// Says that the current task owns the flow `key`; with port 0, every flow of that socket that is
/// not settled and went the same way first.
///
/// # Safety
///
/// As for [`own`].
#[inline(always)]
pub(crate) unsafe fn tell_owner(key: &FlowKey, inbound: bool) {
    let source = if inbound { UdpOwnerSource::FirstIo } else { UdpOwnerSource::Sent };
    emit::record::<UdpRecord>(Ledger::Udp, |record| {
        // SAFETY: the entry is a whole UdpRecord, filled in full; the task is the caller's promise.
        unsafe {
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpOwner, source as u32);
            write_key(&raw mut (*record).key, key);
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

/// A key that names a socket and no remote end.
#[inline(always)]
pub(crate) const fn any_flow(cookie: u64) -> FlowKey {
    FlowKey { cookie, remote_addr: [0; 16], remote_port: 0, padding: [0; 3] }
}

/// Writes an address into a key in words: BPF has no unaligned stores.
#[inline(always)]
pub(crate) fn set_remote(key: &mut FlowKey, address: Address) {
    // SAFETY: the address is at a multiple of 8 in a key that is aligned to 8.
    unsafe { set_address(&raw mut key.remote_addr, address) };
}

/// Says that a socket and its flows are no more.
#[inline(always)]
pub(crate) fn tell_release(cookie: u64) {
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
unsafe fn move_task(to: *mut TaskIds, from: *const TaskIds) {
    const WORDS: usize = size_of::<TaskIds>() / 8;
    // SAFETY: the caller's promise; TaskIds is aligned to 8 and has no padding.
    unsafe { to.cast::<[u64; WORDS]>().write(from.cast::<[u64; WORDS]>().read()) };
}

/// Copies a key in words.
///
/// # Safety
///
/// `to` must be valid and aligned.
#[inline(always)]
unsafe fn write_key(to: *mut FlowKey, from: &FlowKey) {
    const WORDS: usize = size_of::<FlowKey>() / 8;
    // SAFETY: the caller's promise; FlowKey is aligned to 8 and has no padding.
    unsafe { to.cast::<[u64; WORDS]>().write(ptr::from_ref(from).cast::<[u64; WORDS]>().read()) };
}
