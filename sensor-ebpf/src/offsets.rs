//! Offsets of kernel structure members, resolved from BTF by the agent and set at load.
//!
//! Programs read `OFFSETS[Offset as usize]`. A member that the running kernel lacks is [`MISSING`],
//! never 0: a program must test for it and leave the field at its "unknown" value. BTF:
//! `Documentation/bpf/btf.rst` in the kernel source.

/// Offset of a member that this kernel lacks.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $name:ident = $structure:literal . $($member:literal).+,)*) => {
        /// Member whose offset a program needs, in bytes from the start of its structure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Offset { $($(#[doc = $doc])* $name,)* }

        /// Each member with its structure and its path in it. Each step lies inside the previous
        /// one; anonymous structures and unions are transparent.
        pub const MEMBERS: &[(Offset, &str, &[&str])] =
            &[$((Offset::$name, $structure, &[$($member),+]),)*];

        /// Number of elements of [`crate::maps::OFFSETS`].
        pub const OFFSET_COUNT: usize = MEMBERS.len();
    };
}

offsets! {
    // struct sock_common, struct sock: include/net/sock.h
    /// Remote IPv4 address, network order.
    SkDaddr = "sock_common"."skc_daddr",
    /// Local IPv4 address, network order.
    SkRcvSaddr = "sock_common"."skc_rcv_saddr",
    /// Remote port, network order.
    SkDport = "sock_common"."skc_dport",
    /// Local port, host order; 0 again at CLOSE.
    SkNum = "sock_common"."skc_num",
    /// TCP state (`TCP_*`, `include/net/tcp_states.h`).
    SkState = "sock_common"."skc_state",
    /// Address family (`AF_*`).
    SkFamily = "sock_common"."skc_family",
    /// Network namespace, `struct net *`.
    SkNet = "sock_common"."skc_net"."net",
    /// Remote IPv6 address, network order.
    SkV6Daddr = "sock_common"."skc_v6_daddr",
    /// Local IPv6 address, network order.
    SkV6RcvSaddr = "sock_common"."skc_v6_rcv_saddr",
    /// Socket cookie; 0 until it is first requested.
    SkCookie = "sock_common"."skc_cookie",
    /// Flag bits, `enum sock_flags`.
    SkFlags = "sock_common"."skc_flags",
    /// IP protocol; u16 since 5.6.
    SkProtocol = "sock"."sk_protocol",
    /// Pending error, an errno.
    SkErr = "sock"."sk_err",
    // struct inet_sock: include/net/inet_sock.h
    /// Local port, network order; kept at CLOSE.
    InetSport = "inet_sock"."inet_sport",
    // struct inet_connection_sock: include/net/inet_connection_sock.h
    /// State of the upper layer protocol: of an MPTCP subflow a `struct mptcp_subflow_context *`.
    IcskUlpData = "inet_connection_sock"."icsk_ulp_data",
    // struct mptcp_subflow_context: net/mptcp/protocol.h
    /// The MPTCP socket, `struct sock *`.
    MptcpConn = "mptcp_subflow_context"."conn",
    // struct tcp_sock: include/linux/tcp.h
    /// True for an MPTCP subflow (since 5.6).
    TcpIsMptcp = "tcp_sock"."is_mptcp",
    /// Queue that `TCP_REPAIR_QUEUE` selected last; 0 for none.
    TcpRepairQueue = "tcp_sock"."repair_queue",
    /// Payload bytes sent, retransmissions included.
    TcpBytesSent = "tcp_sock"."bytes_sent",
    /// Payload bytes that were retransmitted.
    TcpBytesRetrans = "tcp_sock"."bytes_retrans",
    /// Bytes received in order; a FIN counts as one.
    TcpBytesReceived = "tcp_sock"."bytes_received",
    /// Smoothed RTT, microseconds times 8.
    TcpSrttUs = "tcp_sock"."srtt_us",
    // struct net: include/net/net_namespace.h
    /// Inode number of the network namespace.
    NetInum = "net"."ns"."inum",
    // struct cgroup, struct cgroup_root: include/linux/cgroup-defs.h
    /// Directory of the cgroup, `struct kernfs_node *`.
    CgroupKn = "cgroup"."kn",
    /// Hierarchy of the cgroup, `struct cgroup_root *`.
    CgroupRoot = "cgroup"."root",
    /// Id of the hierarchy; 0 for version 2.
    CgroupRootHierarchyId = "cgroup_root"."hierarchy_id",
    // struct kernfs_node: include/linux/kernfs.h
    /// Id of the node, which is the id of the cgroup.
    KernfsId = "kernfs_node"."id",
    // struct task_struct: include/linux/sched.h
    /// Flag bits, `PF_*`.
    TaskFlags = "task_struct"."flags",
    /// Thread id in the initial pid namespace.
    TaskPid = "task_struct"."pid",
    /// Process id in the initial pid namespace.
    TaskTgid = "task_struct"."tgid",
    /// First thread of the process, `struct task_struct *`.
    TaskGroupLeader = "task_struct"."group_leader",
    /// Parent of the process, `struct task_struct *`.
    TaskRealParent = "task_struct"."real_parent",
    /// Start time, ns since boot (since 5.5; `real_start_time` before).
    TaskStartBoottime = "task_struct"."start_boottime",
    /// Address space, `struct mm_struct *`.
    TaskMm = "task_struct"."mm",
    /// State shared by the threads, `struct signal_struct *`.
    TaskSignal = "task_struct"."signal",
    // struct signal_struct: include/linux/sched/signal.h
    /// Number of live threads of the process.
    SignalLive = "signal_struct"."live",
    // struct mm_struct: include/linux/mm_types.h
    /// User address of the first byte of the arguments.
    MmArgStart = "mm_struct"."arg_start",
    /// User address of the byte after the arguments.
    MmArgEnd = "mm_struct"."arg_end",
    /// Executable of the process, `struct file *`.
    MmExeFile = "mm_struct"."exe_file",
    // struct file: include/linux/fs.h
    /// Mount of a file, `struct vfsmount *`.
    FileMnt = "file"."f_path"."mnt",
    /// Directory entry of a file, `struct dentry *`.
    FileDentry = "file"."f_path"."dentry",
    // struct dentry: include/linux/dcache.h
    /// Parent directory of an entry, `struct dentry *`.
    DentryParent = "dentry"."d_parent",
    /// Name of an entry, NUL-terminated.
    DentryName = "dentry"."d_name"."name",
    // struct vfsmount: include/linux/mount.h; struct mount: fs/mount.h
    /// Root entry of a mount, `struct dentry *`.
    MntRoot = "vfsmount"."mnt_root",
    /// The `struct vfsmount` that is embedded in a `struct mount`.
    MountMnt = "mount"."mnt",
    /// Parent mount, `struct mount *`.
    MountParent = "mount"."mnt_parent",
    /// Entry of the parent mount that this mount covers, `struct dentry *`.
    MountMountpoint = "mount"."mnt_mountpoint",
}
