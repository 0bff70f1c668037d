//! `StateDisk`: the agent's state on its disk or, if that accepts no writes, in memory.
//!
//! A full or read-only disk never refuses the start: detection is worth more than what is kept. The spool
//! has its own degraded mode, and stays where it is.

use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tempfile::TempDir;

use super::agent_id;
use crate::base::error_chain::chain;
use crate::config::Config;
use crate::intel::FeedFolder;
use crate::telemetry::control::ControlServer;

/// Bytes that the disk must accept at the start: a small set and some segments.
const PROBE_BYTES: usize = 64 << 10;
/// File systems in memory, tried in this order after the directory of the control socket.
const MEMORY: [&str; 2] = ["/dev/shm", "/tmp"];
/// Files of the feeds directory that are used from a disk that is only readable.
const KEPT: [&str; 2] = ["set", "confirmed"];

/// State that every start needs.
pub(super) struct StateDisk {
    pub(super) agent_id: String,
    pub(super) control: ControlServer,
    pub(super) folder: FeedFolder,
    /// Directory of the history.
    pub(super) directory: PathBuf,
    /// Replacement of the state directory; removed at the end.
    pub(super) memory: Option<TempDir>,
    /// Reason why the state is in memory.
    pub(super) error: Option<String>,
}

impl StateDisk {
    /// Opens the state directory, or a replacement in memory if the disk refuses writes. Other errors, such
    /// as missing permissions, are returned: they are wrong settings.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.agent.state_dir;
        match Self::open_in(config, directory) {
            Err(error) if is_disk_error(&error) => Self::in_memory(config, &error),
            opened => opened,
        }
    }

    fn open_in(config: &Config, directory: &Path) -> anyhow::Result<Self> {
        let agent_id = agent_id::agent_id(directory)?.to_string();
        // Bound before any program is loaded: one agent per state directory.
        let control = ControlServer::bind(&config.agent.control_socket())?;
        let folder = FeedFolder::open(directory);
        let folder = folder.and_then(|folder| probe(directory).map(|()| folder));
        let folder = anyhow::Context::context(folder, "write to the state directory")?;
        let directory = directory.to_owned();
        Ok(Self { agent_id, control, folder, directory, memory: None, error: None })
    }

    fn in_memory(config: &Config, error: &anyhow::Error) -> anyhow::Result<Self> {
        let disk = &config.agent.state_dir;
        let memory = memory_directory(config)?;
        let path = memory.path().to_owned();
        let known_id = std::fs::copy(disk.join("agent-id"), path.join("agent-id"));
        let agent_id = agent_id::agent_id(&path)?.to_string();
        let folder = FeedFolder::open(&path)?;
        link_sets(FeedFolder::at(disk).path(), folder.path());
        let configured = config.agent.control_socket();
        let socket = path.join("netsensor.sock");
        let bound = ControlServer::bind(&configured).map_err(anyhow::Error::from);
        let (control, socket) = match bound {
            Err(error) if is_disk_error(&error) => (ControlServer::bind(&socket)?, socket),
            bound => (bound?, configured),
        };
        let cause = chain(error.as_ref());
        let id = if known_id.is_ok() { "" } else { ", the agent id" };
        let reason = format!(
            "{}: {cause}; the agent runs from memory, and a restart loses: new feed sets, the history, \
             dedup windows{id}, and alerts that are not delivered; the control socket is {}; make room, \
             or make the disk writable, and restart the agent",
            disk.display(),
            socket.display()
        );
        tracing::error!(error = %reason, "state directory cannot be written");
        let (memory, error) = (Some(memory), Some(reason));
        Ok(Self { agent_id, control, folder, directory: path, memory, error })
    }
}

/// Writes and removes a file.
fn probe(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(&vec![b'.'; PROBE_BYTES])?;
    file.sync_data()
}

/// A new directory for the agent's user only.
fn memory_directory(config: &Config) -> io::Result<TempDir> {
    let socket = config.agent.control_socket.as_deref().and_then(Path::parent);
    let parents = socket.into_iter().chain(MEMORY.iter().map(Path::new));
    let mut last = io::Error::from(Errno::ENOSPC);
    for parent in parents {
        let created = tempfile::Builder::new().prefix("netsensor-").tempdir_in(parent);
        match created.and_then(|directory| probe(directory.path()).map(|()| directory)) {
            Ok(directory) => return Ok(directory),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes the saved sets of a readable disk usable in `memory`; a new set replaces its link.
fn link_sets(disk: &Path, memory: &Path) {
    let Ok(entries) = std::fs::read_dir(disk) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let is_kept = path.extension().is_some_and(|it| KEPT.iter().any(|kept| it == *kept));
        let Some(name) = path.file_name().filter(|_| is_kept) else { continue };
        if let Err(error) = symlink(&path, memory.join(name)) {
            tracing::warn!(path = %path.display(), %error, "saved set not used");
        }
    }
}

/// True if the disk is full, read-only or broken.
fn is_disk_error(error: &anyhow::Error) -> bool {
    let errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let mut numbers = errors.filter_map(io::Error::raw_os_error).map(Errno::from_raw);
    numbers.any(|it| matches!(it, Errno::EROFS | Errno::ENOSPC | Errno::EDQUOT | Errno::EIO))
}
