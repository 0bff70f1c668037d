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
use crate::sock::{Address, set_address};
use crate::task::{self, member};

#[map]
pub(crate) static UDP_FLOWS: LruHashMap<FlowKey, FlowCounts> =
    LruHashMap::with_max_entries(UDP_FLOWS_MAX, 0);

#[btf_map]
static UDP_SOCKETS: SkStorage<UdpSocket> = SkStorage::new();

/// Senders of a socket that are told apart. More that share one at the same instant may be taken
/// for each other when they begin a flow.
const SENDERS: usize = 4;

/// What is known of a UDP socket. Zeroed when it is made.
#[repr(C)]
pub(crate) struct UdpSocket {
    /// Socket cookie; 0 until it has a flow.
    pub(crate) cookie: u64,
    /// Flows whose owner was not told; may be too high where a flow was evicted.
    pub(crate) unowned: u64,
    /// The best known owner, for a flow of which no more is known.
    owner: TaskIds,
    /// Tasks that sent with an address, the latest first.
    senders: [TaskIds; SENDERS],
    /// A [`UdpOwnerSource`]: how `owner` is known.
    owner_source: u32,
    /// 1 when a datagram was sent with an address, so that a connected socket may have flows to
    /// others than its peer.
    pub(crate) addressed: u16,
    /// 1 when a reader asked for the sender's address: then readers are known flow by flow.
    pub(crate) reads_addressed: u16,
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
    // SAFETY: the map is a socket storage; the caller vouches for the socket.
    let found = unsafe { bpf_sk_storage_get(storage, sk, ptr::null_mut(), flags) };
    let found = found.cast::<UdpSocket>();
    if found.is_null() { None } else { Some(found) }
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

/// Notes that the task `tgid` of user `uid`, which is the current one, sends with an address.
///
/// # Safety
///
/// As for [`own`].
#[inline(always)]
pub(crate) unsafe fn sends(socket: *mut UdpSocket, tgid: u32, uid: u32) {
    // SAFETY: the caller's promise; the copies stay inside the array.
    unsafe {
        (*socket).addressed = 1;
        let senders = (&raw mut (*socket).senders).cast::<TaskIds>();
        for place in 0..SENDERS {
            let known = senders.add(place);
            if (*known).tgid == tgid && (*known).uid == uid {
                return;
            }
        }
        for place in (1..SENDERS).rev() {
            move_task(senders.add(place), senders.add(place.wrapping_sub(1)));
        }
        task::fill_current(senders);
        if (*socket).owner_source <= UdpOwnerSource::FirstIo as u32 {
            move_task(&raw mut (*socket).owner, senders);
            (*socket).owner_source = UdpOwnerSource::FirstIo as u32;
        }
    }
}

/// Puts the record of a new flow on the ring. For an outbound one the owner is the sender.
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
        let inbound = (*flow).inbound;
        let (task, source) = owner(socket, inbound != 0);
        // Whoever reads an inbound flow first is its owner rather than who did on the socket.
        let owned = inbound == 0 && source >= UdpOwnerSource::FirstIo as u32;
        if (*socket).cookie == 0 {
            (*socket).cookie = key.cookie;
        }
        let told = emit::try_record::<UdpRecord>(Ledger::Udp, |record| {
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpFlow, source);
            (*record).header.boot_ns = (*flow).first_boot_ns;
            write_key(&raw mut (*record).key, key);
            move_task(&raw mut (*record).task, task);
            set_address(&raw mut (*record).local_addr, local.0);
            (*record).local_port = local.1;
            (*record).inbound = inbound;
            (*record).netns = netns;
        });
        if !told {
            return;
        }
        (*flow).told = 1;
        if owned {
            (*flow).owned = 1;
        } else {
            add(&raw mut (*socket).unowned, 1);
        }
    }
}

/// Whose a new flow is: the sender where the current task is one of those that sent with an
/// address (it is, unless the datagram was queued to a firewall in user space), else the socket's
/// owner.
///
/// # Safety
///
/// `socket` must come from [`socket`].
#[inline(always)]
unsafe fn owner(socket: *mut UdpSocket, inbound: bool) -> (*const TaskIds, u32) {
    // SAFETY: the caller's promise; members are read with a check of each address.
    unsafe {
        let senders = (&raw const (*socket).senders).cast::<TaskIds>();
        let owner = (&raw const (*socket).owner, (*socket).owner_source);
        if inbound {
            return owner;
        }
        let current: u32 =
            member(bpf_get_current_task() as *const u8, Offset::TaskTgid).unwrap_or(0);
        for place in 0..SENDERS {
            let known = senders.add(place);
            if (*known).tgid == current && current != 0 {
                return (known, UdpOwnerSource::Sent as u32);
            }
        }
        if (*socket).owner_source < UdpOwnerSource::Sent as u32 && (*senders).tgid != 0 {
            return (senders, UdpOwnerSource::Sent as u32);
        }
        owner
    }
}

/// Says that the current task owns the flow `key`, or with `None` every flow of the socket that
/// has no owner.
///
/// # Safety
///
/// As for [`own`]; the socket has a cookie.
#[inline(always)]
pub(crate) unsafe fn tell_owner(socket: *mut UdpSocket, key: Option<&FlowKey>) {
    // SAFETY: the caller's promise; the entry is a whole UdpRecord, filled in full.
    unsafe {
        own(socket, UdpOwnerSource::FirstIo);
        let any = FlowKey {
            cookie: (*socket).cookie,
            remote_addr: [0; 16],
            remote_port: 0,
            padding: [0; 3],
        };
        emit::record::<UdpRecord>(Ledger::Udp, |record| {
            let source = UdpOwnerSource::FirstIo as u32;
            (*record).header = emit::header::<UdpRecord>(RecordKind::UdpOwner, source);
            write_key(&raw mut (*record).key, key.unwrap_or(&any));
            task::fill_current(&raw mut (*record).task);
            set_address(&raw mut (*record).local_addr, [0; 4]);
            (*record).local_port = 0;
            (*record).inbound = 0;
            (*record).netns = 0;
        });
    }
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
