//! Encodes kernel records byte for byte as the BPF programs write them.
#![expect(clippy::expect_used, reason = "a test ends with a panic")]

use std::net::IpAddr;

use sensor_ebpf::record::{COMM_LEN, OwnerSource, RecordKind, UdpOwnerSource};

/// Task part of a record.
#[derive(Debug, Clone)]
pub struct TaskBytes {
    /// Thread group id, the process id of user space.
    pub tgid: u32,
    /// Start time of the process, ns since boot.
    pub start_boot_ns: u64,
    /// User id of the process.
    pub uid: u32,
    /// Thread group id of the parent.
    pub parent_tgid: u32,
    /// Command name, truncated to 15 bytes.
    pub comm: &'static str,
}

impl Default for TaskBytes {
    fn default() -> Self {
        Self { tgid: 100, start_boot_ns: 1_000, uid: 0, parent_tgid: 1, comm: "task" }
    }
}

impl TaskBytes {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.tgid.to_ne_bytes());
        out.extend(self.tgid.to_ne_bytes());
        out.extend(self.start_boot_ns.to_ne_bytes());
        out.extend(self.uid.to_ne_bytes());
        out.extend(self.parent_tgid.to_ne_bytes());
        out.extend(1_u64.to_ne_bytes());
        let mut comm = [0; COMM_LEN];
        for (target, byte) in comm.iter_mut().zip(self.comm.bytes().take(COMM_LEN - 1)) {
            *target = byte;
        }
        out.extend(comm);
    }
}

/// TCP record of a socket.
#[derive(Debug, Clone)]
pub struct TcpBytes {
    /// Kind in the record's header.
    pub kind: RecordKind,
    /// Owner source, or 0.
    pub detail: u32,
    /// Time of the event, ns since boot.
    pub boot_ns: u64,
    /// Address of the kernel's `struct sock`.
    pub sk: u64,
    /// Task in whose context the event occurred.
    pub task: TaskBytes,
    /// Local address and port.
    pub local: (IpAddr, u16),
    /// Remote address and port.
    pub remote: (IpAddr, u16),
    /// TCP state before the event.
    pub old_state: u8,
    /// Bytes sent and received, set at close.
    pub bytes: (u64, u64),
    /// Socket error (errno), set at close.
    pub error: u32,
}

impl TcpBytes {
    /// Record of this kind for a socket between two addresses.
    pub fn new(kind: RecordKind, sk: u64, local: (&str, u16), remote: (&str, u16)) -> Self {
        let address = |text: &str| text.parse().expect("an address");
        Self {
            kind,
            detail: 0,
            boot_ns: 1_000_000,
            sk,
            task: TaskBytes::default(),
            local: (address(local.0), local.1),
            remote: (address(remote.0), remote.1),
            old_state: 1,
            bytes: (0, 0),
            error: 0,
        }
    }

    /// Owner record of a socket.
    pub fn owner(sk: u64, task: TaskBytes) -> Self {
        let unspecified = ("0.0.0.0", 0);
        let owner = Self::new(RecordKind::TcpOwner, sk, unspecified, unspecified);
        Self { detail: OwnerSource::FirstIo as u32, task, ..owner }
    }

    /// Encodes the record with its header.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.task.write(&mut out);
        let mut body = Vec::new();
        body.extend(self.sk.to_ne_bytes());
        body.extend(0_u64.to_ne_bytes());
        body.extend(out);
        body.extend(address_bytes(self.local.0));
        body.extend(address_bytes(self.remote.0));
        body.extend(self.local.1.to_ne_bytes());
        body.extend(self.remote.1.to_ne_bytes());
        let family: u16 = if self.remote.0.is_ipv4() { 2 } else { 10 };
        body.extend(family.to_ne_bytes());
        body.extend([self.old_state, 7]);
        body.extend(1_u32.to_ne_bytes());
        body.extend(self.error.to_ne_bytes());
        body.extend([0; 8]);
        body.extend(self.bytes.0.to_ne_bytes());
        body.extend(self.bytes.1.to_ne_bytes());
        body.extend([0; 8]);
        with_header(self.kind, self.detail, self.boot_ns, &body)
    }
}

/// Encodes an exec record. `path` is absolute; `arguments` are joined with NUL bytes.
pub fn exec(task: &TaskBytes, boot_ns: u64, path: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    task.write(&mut body);
    let components: Vec<u8> = path
        .trim_start_matches('/')
        .rsplit('/')
        .flat_map(|component| component.bytes().chain([0]))
        .collect();
    let arguments: Vec<u8> =
        arguments.iter().flat_map(|argument| argument.bytes().chain([0])).collect();
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).expect("short").to_ne_bytes();
    body.extend(len(&components));
    body.extend(len(&arguments));
    body.extend([0; 4]);
    body.extend(components);
    body.extend(arguments);
    with_header(RecordKind::ProcessExec, 0, boot_ns, &body)
}

/// Encodes a UDP flow record: a datagram sent from port 40000 by `task`.
pub fn udp_flow(cookie: u64, remote: (&str, u16), boot_ns: u64, task: &TaskBytes) -> Vec<u8> {
    let mapped = |text: &str| match text.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut body = Vec::new();
    body.extend(cookie.to_ne_bytes());
    body.extend(mapped(remote.0));
    body.extend(remote.1.to_ne_bytes());
    body.extend(40_000_u16.to_ne_bytes());
    body.extend([0; 4]);
    task.write(&mut body);
    body.extend(mapped("10.0.0.4"));
    body.extend(40_000_u16.to_ne_bytes());
    body.extend([0, 1]);
    body.extend(1_u32.to_ne_bytes());
    body.extend(task.tgid.to_ne_bytes());
    body.extend([0; 4]);
    with_header(RecordKind::UdpFlow, UdpOwnerSource::Sent as u32, boot_ns, &body)
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn with_header(kind: RecordKind, detail: u32, boot_ns: u64, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 16).expect("short");
    let mut out = Vec::new();
    out.extend((kind as u16).to_ne_bytes());
    out.extend(len.to_ne_bytes());
    out.extend(detail.to_ne_bytes());
    out.extend(boot_ns.to_ne_bytes());
    out.extend(body);
    out
}
