//! Records that the BPF programs submit to the ring.
//!
//! Sizes are asserted at compile time. A new field is appended and changes the size, so that an
//! agent and an object of different versions never misread each other silently.

mod udp;

pub use udp::{
    FLOW_COUNTS_LEN, FLOW_KEY_LEN, FlowCounts, FlowKey, UdpOwnerSource, UdpRecord,
    UdpRefusedRecord, UdpReleaseRecord,
};

/// Kind of a record: the first field of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// CLOSE to `SYN_SENT`: the current task called `connect`. The local port may still be 0.
    TcpConnect = 1,
    /// `SYN_SENT` or `SYN_RECV` to ESTABLISHED. Runs in softirq, so the record has no task.
    TcpEstablished = 2,
    /// Owner of a connection: the task that accepted it, or first read, wrote or closed it.
    TcpOwner = 3,
    /// Any connected state to CLOSE. The task is the one that closes a connection without an owner
    /// so far; otherwise it is zero.
    TcpClose = 4,
    /// CLOSE to LISTEN: the current task called `listen`.
    TcpListen = 5,
    /// LISTEN to CLOSE: the end of a listener.
    TcpUnlisten = 6,
    /// Failed `connect` of the current task, before a SYN was sent.
    TcpConnectFailed = 7,
    /// Response latency of a connection; its [`Self::TcpClose`] follows.
    TcpLatency = 8,
    /// `execve` of the current task.
    ProcessExec = 16,
    /// New process (not a thread) of the current task.
    ProcessFork = 17,
    /// Exit of the last thread of a process.
    ProcessExit = 18,
    /// New cgroup of version 2.
    CgroupMkdir = 32,
    /// First datagram of a UDP flow, sent or received.
    UdpFlow = 48,
    /// Owner of a UDP flow: the first task that read or wrote while none was known.
    UdpOwner = 49,
    /// Close of the last descriptor of a UDP socket that has flows.
    UdpRelease = 50,
    /// Datagram that the kernel refused to send, of a UDP flow without any other.
    UdpRefused = 51,
    /// DNS response that this host received.
    DnsAnswer = 64,
}

impl RecordKind {
    /// Returns the kind with this number, if there is one.
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
            51 => Self::UdpRefused,
            64 => Self::DnsAnswer,
            _ => return None,
        })
    }
}

/// Header of every record.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RecordHeader {
    /// Kind of the record, a [`RecordKind`].
    pub kind: u16,
    /// Length of the whole record, header included, bytes.
    pub len: u16,
    /// Source of the owner in records that name one: an [`OwnerSource`] or a [`UdpOwnerSource`].
    /// Errno of a failed connect. In a `TcpConnect` record 1 if the connection is restored, not
    /// opened (`TCP_REPAIR`). Otherwise 0.
    pub detail: u32,
    /// Time of the event, `bpf_ktime_get_boot_ns` (from 5.8): ns since boot, suspend included.
    pub boot_ns: u64,
}

/// Source of the owner of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum OwnerSource {
    /// `inet_csk_accept` returned the connection to this task.
    Accept = 1,
    /// This task was the first to read, write or close the connection.
    FirstIo = 2,
}

impl OwnerSource {
    /// Returns the source with this number, if there is one.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Accept,
            2 => Self::FirstIo,
            _ => return None,
        })
    }
}

/// Size of a task's name, NUL included: `TASK_COMM_LEN`, `include/linux/sched.h`.
pub const COMM_LEN: usize = 16;

/// Ids and name of a task.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TaskIds {
    /// Process id (the `getpid(2)` of user space), in the initial pid namespace.
    pub tgid: u32,
    /// Thread id (the `gettid(2)` of user space), in the initial pid namespace.
    pub tid: u32,
    /// Start of the process (of its group leader), ns since boot; 0 if BTF lacks the member.
    pub start_boot_ns: u64,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Process id of the parent, in exec and fork records; 0 elsewhere.
    pub parent_tgid: u32,
    /// Id of the task's cgroup, version 2.
    pub cgroup_id: u64,
    /// Name of the thread, NUL-terminated; arbitrary bytes.
    pub comm: [u8; COMM_LEN],
}

/// Value of `detail` in a `TcpConnect` record of a connection that is restored with `TCP_REPAIR`.
pub const CONNECT_RESTORED: u32 = 1;

/// Record of all `Tcp*` kinds but `TcpLatency`. Fields that a kind does not have are zero.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TcpRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Address of the `struct sock`, which identifies the socket during its lifetime. In an owner
    /// record it may be an MPTCP socket, whose subflows it stands for.
    pub sk: u64,
    /// Socket cookie; 0 until it is first requested (`net/core/sock_diag.c: __sock_gen_cookie`).
    pub cookie: u64,
    /// Task of connect, owner and listen records, and of some close records; zero where a kernel
    /// thread connects, since it acts on behalf of another.
    pub task: TaskIds,
    /// Local address; IPv4 in the first four bytes if `family` is `AF_INET`.
    pub local_addr: [u8; 16],
    /// Remote address, in the same form.
    pub remote_addr: [u8; 16],
    /// Local port, host order; 0 at connect and at listen unless bound.
    pub local_port: u16,
    /// Remote port, host order; 0 for a listener.
    pub remote_port: u16,
    /// Address family: `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// TCP state before the transition.
    pub old_state: u8,
    /// TCP state after the transition.
    pub new_state: u8,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// `sk_err` at close: 0, or an errno such as 111 (refused), 110 (timed out) or 104 (reset).
    pub error: u32,
    /// Smoothed round-trip time, microseconds; 0 if unknown.
    pub srtt_us: u32,
    /// Explicit padding, zero.
    pub padding: u32,
    /// Payload bytes sent, without retransmissions; 0 before the close.
    pub bytes_sent: u64,
    /// Payload bytes received, without the FIN; 0 before the close.
    pub bytes_received: u64,
    /// Address of the MPTCP socket that this socket is a subflow of; 0 for others. Set in connect
    /// and established records.
    pub mptcp: u64,
}

/// Maximum bytes of a DNS message; longer ones are truncated. Since DNS Flag Day 2020, resolvers
/// advertise at most this size for UDP (<https://www.dnsflagday.net/2020/>).
pub const DNS_MESSAGE_LEN: usize = 1232;

/// DNS message (RFC 1035, section 4) that this host received from port 53, on a socket that had
/// sent there: a response without an error, with an answer count above 0. No more is checked.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DnsRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Address of the server, IPv6 or mapped IPv4.
    pub server: [u8; 16],
    /// Length of the message on the wire, bytes.
    pub wire_len: u32,
    /// Length of `message` in use, bytes; 0 if the datagram could not be read.
    pub message_len: u32,
    /// Message from its first byte. Bytes from `message_len` on are undefined.
    pub message: [u8; DNS_MESSAGE_LEN],
}

/// Maximum bytes of the executable's path.
pub const PATH_MAX_LEN: usize = 1024;
/// Maximum bytes of the arguments; longer ones are truncated.
pub const ARGS_MAX_LEN: usize = 1024;

/// Fixed part of an exec record. It is followed by `path_len` bytes of path components, innermost
/// first, then by `args_len` bytes of arguments. Each component and argument ends with NUL.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ExecRecord {
    /// Common record header; `len` includes the variable part.
    pub header: RecordHeader,
    /// Task after the exec, with its new name.
    pub task: TaskIds,
    /// Length of the path components, bytes.
    pub path_len: u16,
    /// Length of the arguments, bytes.
    pub args_len: u16,
    /// 1 if the path had more components or bytes than fit.
    pub path_truncated: u16,
    /// 1 if the arguments were longer than fits.
    pub args_truncated: u16,
}

/// New process, with the same image as its parent.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ForkRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Task that forked.
    pub parent: TaskIds,
    /// Process id of the new process.
    pub child_tgid: u32,
    /// Explicit padding, zero.
    pub padding: u32,
    /// Start of the new process, ns since boot.
    pub child_start_boot_ns: u64,
}

/// End of a process.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ExitRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Process id of the process that ended.
    pub tgid: u32,
    /// Explicit padding, zero.
    pub padding: u32,
    /// Start of the process, ns since boot; 0 if unknown.
    pub start_boot_ns: u64,
}

/// Maximum bytes of a cgroup's path, NUL included; longer ones are truncated.
pub const CGROUP_PATH_LEN: usize = 512;

/// New cgroup, with its path: the directory may be removed before user space can read it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CgroupRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Id of the cgroup, as `bpf_get_current_cgroup_id` returns it in its tasks.
    pub id: u64,
    /// Path from the root of the hierarchy, NUL-terminated; arbitrary bytes.
    pub path: [u8; CGROUP_PATH_LEN],
}

const _: () = assert!(size_of::<RecordHeader>() == 16);
const _: () = assert!(size_of::<TaskIds>() == 48);
const _: () = assert!(size_of::<TcpRecord>() == 160);
const _: () = assert!(size_of::<ExecRecord>() == 72);
const _: () = assert!(size_of::<ForkRecord>() == 80);
const _: () = assert!(size_of::<ExitRecord>() == 32);
const _: () = assert!(size_of::<CgroupRecord>() == 536);
const _: () = assert!(size_of::<DnsRecord>() == 1272);
