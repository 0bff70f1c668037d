//! Records of processes and cgroups, and the task in records of sockets.

use sensor_ebpf::record::{CGROUP_PATH_LEN, COMM_LEN, RecordHeader};

use super::DecodeError;
use super::reader::ByteReader;

/// A task of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// Process id in the initial PID namespace; 0 for none.
    pub tgid: u32,
    /// Start of the process, ns since boot; 0 if unknown.
    pub start_boot_ns: u64,
    /// Real user id; `u32::MAX` if unknown.
    pub uid: u32,
    /// Process id of the parent, in exec and fork records; 0 if unknown.
    pub parent_tgid: u32,
    /// cgroup v2 id; 0 if unknown.
    pub cgroup_id: u64,
    /// Name of the thread.
    pub comm: String,
}

impl Task {
    pub(super) fn read(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let (tgid, _tid) = (reader.u32()?, reader.u32()?);
        Ok(Self {
            tgid,
            start_boot_ns: reader.u64()?,
            uid: reader.u32()?,
            parent_tgid: reader.u32()?,
            cgroup_id: reader.u64()?,
            comm: reader.text::<COMM_LEN>()?,
        })
    }
}

/// A new image in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Time of the exec, ns since boot.
    pub boot_ns: u64,
    /// Task after the exec, with its new name.
    pub task: Task,
    /// Absolute path of the executable; "" if unknown. Begins with `…/` if it is truncated.
    pub path: String,
    /// Arguments joined by spaces; ends with ` …` if they are truncated.
    pub command_line: String,
}

/// A new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Time of the fork, ns since boot.
    pub boot_ns: u64,
    /// Task that forked.
    pub parent: Task,
    /// Process id of the new process.
    pub child_tgid: u32,
    /// Start of the new process, ns since boot; 0 if unknown.
    pub child_start_boot_ns: u64,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Time of the exit, ns since boot.
    pub boot_ns: u64,
    /// Process id of the process that exited.
    pub tgid: u32,
    /// Start of the process, ns since boot; 0 if unknown.
    pub start_boot_ns: u64,
}

/// A new cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMkdir {
    /// cgroup v2 id.
    pub id: u64,
    /// Path from the root of the hierarchy.
    pub path: String,
}

pub(super) fn exec(
    reader: &mut ByteReader<'_>,
    header: &RecordHeader,
) -> Result<Exec, DecodeError> {
    let task = Task::read(reader)?;
    let (path_len, args_len) = (reader.u16()?, reader.u16()?);
    let (is_path_truncated, are_args_truncated) = (reader.u16()? != 0, reader.u16()? != 0);
    let path = path(reader.bytes(path_len.into())?, is_path_truncated);
    let command_line = command_line(reader.bytes(args_len.into())?, are_args_truncated);
    Ok(Exec { boot_ns: header.boot_ns, task, path, command_line })
}

/// Joins path components, which are innermost first, each terminated by NUL.
fn path(components: &[u8], is_truncated: bool) -> String {
    let mut path = String::new();
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    if components.is_empty() {
        return path;
    }
    if is_truncated {
        path.push('…');
    }
    for component in components.rsplit(|byte| *byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    path
}

/// Joins arguments, each terminated by NUL, as in exec records and in `/proc/PID/cmdline`.
pub(crate) fn command_line(arguments: &[u8], is_truncated: bool) -> String {
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    let mut line = String::from_utf8_lossy(arguments).replace('\0', " ");
    if is_truncated {
        line.push_str(" …");
    }
    line
}

pub(super) fn fork(
    reader: &mut ByteReader<'_>,
    header: &RecordHeader,
) -> Result<Fork, DecodeError> {
    let (parent, child_tgid) = (Task::read(reader)?, reader.u32()?);
    reader.skip::<4>()?;
    Ok(Fork { boot_ns: header.boot_ns, parent, child_tgid, child_start_boot_ns: reader.u64()? })
}

pub(super) fn exit(
    reader: &mut ByteReader<'_>,
    header: &RecordHeader,
) -> Result<Exit, DecodeError> {
    let tgid = reader.u32()?;
    reader.skip::<4>()?;
    Ok(Exit { boot_ns: header.boot_ns, tgid, start_boot_ns: reader.u64()? })
}

pub(super) fn cgroup_mkdir(reader: &mut ByteReader<'_>) -> Result<CgroupMkdir, DecodeError> {
    Ok(CgroupMkdir { id: reader.u64()?, path: reader.text::<CGROUP_PATH_LEN>()? })
}
