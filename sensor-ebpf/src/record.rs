//! Records: what a program puts on the ring.
//!
//! Sizes are asserted at compile time. A new field goes at the end and changes the size, so an
//! agent and an object of different ages cannot misread each other silently.

/// Kind of a record, the first field of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// CLOSE to `SYN_SENT`: the current task called connect. The local port may still be 0.
    TcpConnect = 1,
    /// `SYN_SENT` or `SYN_RECV` to ESTABLISHED, in softirq: no task.
    TcpEstablished = 2,
    /// The task that accepted a connection, or was the first to read, write or close it.
    TcpOwner = 3,
    /// Any connected state to CLOSE. The task is the closer of a connection that nobody had
    /// touched; otherwise it is zero.
    TcpClose = 4,
    /// CLOSE to LISTEN: the current task called listen.
    TcpListen = 5,
    /// LISTEN to CLOSE.
    TcpUnlisten = 6,
    /// The current task called connect, which failed before a SYN was sent.
    TcpConnectFailed = 7,
    /// The turns of request and answer on a connection that is about to be told as closed.
    TcpLatency = 8,
    /// A task replaced its image.
    ProcessExec = 16,
    /// A task made a new process (not a thread).
    ProcessFork = 17,
    /// The last thread of a process ended.
    ProcessExit = 18,
    /// A cgroup of version 2 was made.
    CgroupMkdir = 32,
    /// The first datagram of a UDP flow was sent or received.
    UdpFlow = 48,
    /// The task that read or wrote first on a flow whose owner was not known.
    UdpOwner = 49,
    /// The last descriptor of a UDP socket that has flows was closed.
    UdpRelease = 50,
    /// A DNS answer was received.
    DnsAnswer = 64,
}

impl RecordKind {
    /// The kind with this number, if there is one.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::TcpConnect,
            2 => Self::TcpEstablished,
            3 => Self::TcpOwner,
            4 => Self::TcpClose,
            5 => Self::TcpListen,
            6 => Self::TcpUnlisten,
            7 => Self::TcpConnectFailed,
            8 => Self::TcpLatency,
            16 => Self::ProcessExec,
            17 => Self::ProcessFork,
            18 => Self::ProcessExit,
            32 => Self::CgroupMkdir,
            48 => Self::UdpFlow,
            49 => Self::UdpOwner,
            50 => Self::UdpRelease,
            64 => Self::DnsAnswer,
            _ => return None,
        })
    }
}

/// Opens every record.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RecordHeader {
    /// A [`RecordKind`].
    pub kind: u16,
    /// Bytes of the whole record, header included.
    pub len: u16,
    /// Of a record that names an owner: how it was found, an [`OwnerSource`] or a
    /// [`UdpOwnerSource`]. Of a connect that failed: its errno. Otherwise 0.
    pub detail: u32,
    /// `bpf_ktime_get_boot_ns` (from 5.8): ns since boot, suspend included.
    pub boot_ns: u64,
}

/// How the owner of an accepted connection was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum OwnerSource {
    /// `inet_csk_accept` returned it to this task.
    Accept = 1,
    /// This task was the first to read, write or close it.
    FirstIo = 2,
}

impl OwnerSource {
    /// The source with this number, if there is one.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Accept,
            2 => Self::FirstIo,
            _ => return None,
        })
    }
}

/// How the owner of a UDP flow was found, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum UdpOwnerSource {
    /// Not at all.
    Unknown = 0,
    /// This task bound the socket.
    Bound = 1,
    /// This task was the first seen to read or write it.
    FirstIo = 2,
    /// This task connected the socket, or sent the datagram with its address.
    Sent = 3,
}

impl UdpOwnerSource {
    /// The source with this number, if there is one.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Unknown,
            1 => Self::Bound,
            2 => Self::FirstIo,
            3 => Self::Sent,
            _ => return None,
        })
    }
}

/// Bytes of a task's name, the closing NUL included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// A task, as the kernel names it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TaskIds {
    /// Process id as user space knows it, in the initial pid namespace.
    pub tgid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// Start of the process (of its group leader), ns since boot; 0 when BTF did not tell where.
    pub start_boot_ns: u64,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Process id of the parent, in exec and fork records; 0 elsewhere.
    pub parent_tgid: u32,
    /// Id of the cgroup v2 of the task.
    pub cgroup_id: u64,
    /// Name of the thread, NUL-terminated, any bytes.
    pub comm: [u8; COMM_LEN],
}

/// All `Tcp*` kinds. Fields that a kind does not have are zero.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TcpRecord {
    /// Header.
    pub header: RecordHeader,
    /// Address of the `struct sock`: identifies the socket while it lives.
    pub sk: u64,
    /// Socket cookie; 0 until someone asked for it.
    pub cookie: u64,
    /// The task, for connect, owner and listen, and some ends.
    pub task: TaskIds,
    /// This end; IPv4 in the first four bytes when `family` is `AF_INET`.
    pub local_addr: [u8; 16],
    /// The other end; as above.
    pub remote_addr: [u8; 16],
    /// Host order; 0 at connect unless bound.
    pub local_port: u16,
    /// Host order; 0 for a listener.
    pub remote_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// State before.
    pub old_state: u8,
    /// State after.
    pub new_state: u8,
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// `sk_err` at close: 0, or an errno such as 111 (refused), 110 (timed out), 104 (reset).
    pub error: u32,
    /// Smoothed round-trip time, microseconds; 0 when unknown.
    pub srtt_us: u32,
    /// Padding.
    pub padding: u32,
    /// Payload bytes sent, retransmissions not counted; 0 before the close.
    pub bytes_sent: u64,
    /// Payload bytes received, the FIN not counted; 0 before the close.
    pub bytes_received: u64,
}

/// `UdpFlow` and `UdpOwner`. Addresses are IPv6; one of IPv4 is mapped (`::ffff:a.b.c.d`).
///
/// A flow that is not `settled` may get an owner record within moments; `task` stands in.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UdpRecord {
    /// Header; of a flow, its time is the flow's `first_boot_ns` in [`FlowCounts`].
    pub header: RecordHeader,
    /// Which flow. In an owner record with `remote_port` 0: every flow of the socket that is not
    /// settled and went the same way first; of those that were sent, the ones with that process on
    /// the CPU, if there are any.
    pub key: FlowKey,
    /// Who; nobody where `header.detail` is `Unknown`.
    pub task: TaskIds,
    /// This end; `::` in an owner record.
    pub local_addr: [u8; 16],
    /// Host order; 0 in an owner record.
    pub local_port: u16,
    /// 1 when the first datagram was received, 0 when it was sent.
    pub inbound: u8,
    /// 1 when no owner record will follow.
    pub owner_resolved: u8,
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// Of a flow that was sent: process id of the task that was on the CPU. It is the sender, unless
    /// the datagram had been queued to a firewall in user space.
    pub on_cpu_tgid: u32,
    /// Padding.
    pub padding: u32,
}

/// The end of a UDP socket and of all its flows.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UdpReleaseRecord {
    /// Header.
    pub header: RecordHeader,
    /// Socket cookie.
    pub cookie: u64,
}

/// Key of the map of UDP flows: one for each socket and remote end.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlowKey {
    /// Socket cookie: never used again.
    pub cookie: u64,
    /// IPv6, or IPv4 mapped.
    pub remote_addr: [u8; 16],
    /// Host order.
    pub remote_port: u16,
    /// Padding, zero.
    pub padding: [u16; 3],
}

/// Bytes of a [`FlowKey`].
pub const FLOW_KEY_LEN: usize = 32;

/// Value of the map of UDP flows.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlowCounts {
    /// Time of the first datagram, ns since boot.
    pub first_boot_ns: u64,
    /// Time of the latest one, ns of `CLOCK_MONOTONIC`; to the tick where [`crate::maps::COARSE_TIME`].
    pub last_monotonic_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// 1 when the first datagram was received.
    pub inbound: u16,
    /// 1 when the flow's record is on the ring. Until then each datagram tries again.
    pub emitted: u16,
    /// 1 when its owner is settled.
    pub owner_resolved: u16,
    /// Padding.
    pub padding: u16,
}

/// Bytes of a [`FlowCounts`].
pub const FLOW_COUNTS_LEN: usize = 56;

/// Bytes of a DNS message at most; the rest is cut. Resolvers ask for no more over UDP since the
/// DNS flag day of 2020.
pub const DNS_MESSAGE_LEN: usize = 1232;

/// A DNS message that this host received from port 53, in answer to what it sent there: a response
/// without an error that says it has answers. No more is checked.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DnsRecord {
    /// Header.
    pub header: RecordHeader,
    /// The server: IPv6, or IPv4 mapped.
    pub server: [u8; 16],
    /// Bytes of the message.
    pub wire_len: u32,
    /// Bytes of it that are here; 0 when it could not be read.
    pub message_len: u32,
    /// The message, from its first byte. What follows is any bytes.
    pub message: [u8; DNS_MESSAGE_LEN],
}

/// Bytes of the executable's path at most.
pub const PATH_MAX_LEN: usize = 1024;
/// Bytes of the arguments at most; the rest is cut.
pub const ARGS_MAX_LEN: usize = 1024;

/// Fixed part of an exec record. Then come `path_len` bytes of path components, innermost first,
/// each closed by NUL, then `args_len` bytes of arguments, each closed by NUL.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ExecRecord {
    /// Header; `len` counts the variable part too.
    pub header: RecordHeader,
    /// The task with its new name.
    pub task: TaskIds,
    /// Bytes of path components.
    pub path_len: u16,
    /// Bytes of arguments.
    pub args_len: u16,
    /// 1 when the path had more components or bytes than fit.
    pub path_cut: u16,
    /// 1 when there were more arguments than fit.
    pub args_cut: u16,
}

/// A new process; its image is that of its maker.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ForkRecord {
    /// Header.
    pub header: RecordHeader,
    /// The task that forked.
    pub parent: TaskIds,
    /// The new process.
    pub child_tgid: u32,
    /// Padding.
    pub padding: u32,
    /// Its start, ns since boot.
    pub child_start_boot_ns: u64,
}

/// The end of a process.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ExitRecord {
    /// Header.
    pub header: RecordHeader,
    /// The process.
    pub tgid: u32,
    /// Padding.
    pub padding: u32,
    /// Its start, ns since boot; 0 when unknown.
    pub start_boot_ns: u64,
}

/// Bytes of a cgroup's path at most, the closing NUL included; the rest is cut.
pub const CGROUP_PATH_LEN: usize = 512;

/// A new cgroup. Its directory may be gone before anybody can look it up.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CgroupRecord {
    /// Header.
    pub header: RecordHeader,
    /// Its id: what `bpf_get_current_cgroup_id` gives for its tasks.
    pub id: u64,
    /// From the root of the hierarchy, NUL-terminated, any bytes.
    pub path: [u8; CGROUP_PATH_LEN],
}

const _: () = assert!(size_of::<RecordHeader>() == 16);
const _: () = assert!(size_of::<TaskIds>() == 48);
const _: () = assert!(size_of::<TcpRecord>() == 152);
const _: () = assert!(size_of::<ExecRecord>() == 72);
const _: () = assert!(size_of::<ForkRecord>() == 80);
const _: () = assert!(size_of::<ExitRecord>() == 32);
const _: () = assert!(size_of::<CgroupRecord>() == 536);
const _: () = assert!(size_of::<FlowKey>() == FLOW_KEY_LEN);
const _: () = assert!(size_of::<FlowCounts>() == FLOW_COUNTS_LEN);
const _: () = assert!(size_of::<UdpRecord>() == 128);
const _: () = assert!(size_of::<UdpReleaseRecord>() == 24);
const _: () = assert!(size_of::<DnsRecord>() == 1272);
