//! Control group with a limit of memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group with a limit of memory, removed at the end. Version 1 or 2 of the controller.
pub(crate) struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// A group with at most `bytes`; an error if this host has no memory controller for it.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (parent, file) = if v1.is_dir() {
            (v1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let group = Self(parent.join(format!("netsensor-test-{}", std::process::id())));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(file), bytes.to_string())?;
        Ok(group)
    }

    /// A command that runs `command` in the group.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(self.0.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // It is empty once its processes are reaped.
        let _kept = fs::remove_dir(&self.0);
    }
}
