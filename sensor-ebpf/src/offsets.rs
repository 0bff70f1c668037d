//! Offsets of kernel structure members, resolved from BTF by the agent and handed over at load.
//!
//! Programs read `OFFSETS[Offset as usize]`. A member that the running kernel does not have is
//! [`MISSING`], never 0: a program must test for it and leave the field at its "unknown" value.

/// The member is not in this kernel.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $name:ident = $structure:literal . $($member:literal).+,)*) => {
        /// A member whose offset a program needs, in bytes from the start of its structure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Offset { $($(#[doc = $doc])* $name,)* }

        /// Members: the offset, the structure, and the path through it (each step inside the
        /// one before; anonymous structures and unions are looked through).
        pub const MEMBERS: &[(Offset, &str, &[&str])] =
            &[$((Offset::$name, $structure, &[$($member),+]),)*];

        /// Number of offsets.
        pub const OFFSET_COUNT: usize = MEMBERS.len();
    };
}

offsets! {
    /// Remote IPv4 address.
    SkDaddr = "sock_common"."skc_daddr",
    /// Local IPv4 address.
    SkRcvSaddr = "sock_common"."skc_rcv_saddr",
    /// Remote port, network order.
    SkDport = "sock_common"."skc_dport",
    /// Local port, host order; 0 again at CLOSE.
    SkNum = "sock_common"."skc_num",
    /// State (`TCP_*`).
    SkState = "sock_common"."skc_state",
    /// Address family.
    SkFamily = "sock_common"."skc_family",
    /// `struct net *`.
    SkNet = "sock_common"."skc_net"."net",
    /// Remote IPv6 address.
    SkV6Daddr = "sock_common"."skc_v6_daddr",
    /// Local IPv6 address.
    SkV6RcvSaddr = "sock_common"."skc_v6_rcv_saddr",
    /// Socket cookie.
    SkCookie = "sock_common"."skc_cookie",
    /// `SOCK_*` flag bits.
    SkFlags = "sock_common"."skc_flags",
    /// IP protocol, u16 since 5.6.
    SkProtocol = "sock"."sk_protocol",
    /// Pending error.
    SkErr = "sock"."sk_err",
    /// Local port, network order; kept at CLOSE.
    InetSport = "inet_sock"."inet_sport",
    /// Payload bytes sent, retransmissions included.
    TcpBytesSent = "tcp_sock"."bytes_sent",
    /// Payload bytes sent again.
    TcpBytesRetrans = "tcp_sock"."bytes_retrans",
    /// Bytes received in order, a FIN counted as one.
    TcpBytesReceived = "tcp_sock"."bytes_received",
    /// Smoothed RTT, microseconds times 8.
    TcpSrttUs = "tcp_sock"."srtt_us",
    /// Inode number of the namespace.
    NetInum = "net"."ns"."inum",
    /// `struct kernfs_node *`.
    CgroupKn = "cgroup"."kn",
    /// `struct cgroup_root *`.
    CgroupRoot = "cgroup"."root",
    /// 0 for the hierarchy of version 2.
    CgroupRootHierarchyId = "cgroup_root"."hierarchy_id",
    /// Id of the node, which is the id of the cgroup.
    KernfsId = "kernfs_node"."id",
    /// `PF_*` flag bits.
    TaskFlags = "task_struct"."flags",
    /// Thread id.
    TaskPid = "task_struct"."pid",
    /// Process id.
    TaskTgid = "task_struct"."tgid",
    /// First thread of the process.
    TaskGroupLeader = "task_struct"."group_leader",
    /// Parent of the process.
    TaskRealParent = "task_struct"."real_parent",
    /// Start, ns since boot (since 5.5; `real_start_time` before).
    TaskStartBoottime = "task_struct"."start_boottime",
    /// `struct mm_struct *`.
    TaskMm = "task_struct"."mm",
    /// `struct signal_struct *`.
    TaskSignal = "task_struct"."signal",
    /// Threads still alive.
    SignalLive = "signal_struct"."live",
    /// First byte of the arguments, user address.
    MmArgStart = "mm_struct"."arg_start",
    /// Byte after the arguments, user address.
    MmArgEnd = "mm_struct"."arg_end",
    /// `struct file *` of the executable.
    MmExeFile = "mm_struct"."exe_file",
    /// `struct vfsmount *` of a file.
    FileMnt = "file"."f_path"."mnt",
    /// `struct dentry *` of a file.
    FileDentry = "file"."f_path"."dentry",
    /// Folder of an entry.
    DentryParent = "dentry"."d_parent",
    /// Name of an entry.
    DentryName = "dentry"."d_name"."name",
    /// Top entry of a mount.
    MntRoot = "vfsmount"."mnt_root",
    /// The part of a `struct mount` that `struct vfsmount *` points to.
    MountMnt = "mount"."mnt",
    /// Mount below.
    MountParent = "mount"."mnt_parent",
    /// Entry of the mount below on which this one lies.
    MountMountpoint = "mount"."mnt_mountpoint",
}
