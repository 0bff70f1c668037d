//! Builds the agent and executes it with the privileges that loading BPF programs requires.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

/// Replaces this process with `netsensor run` and `args`. Returns only on an error.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<ExitCode> {
    // The first build takes minutes, so cargo's progress is shown.
    host::run(workspace.cargo().args(host::BUILD_AGENT)).context("build the agent")?;
    let has_sudo = host::find_program("sudo", &[]).is_some();
    let mut words = command_prefix(host::is_root(), has_sudo)?;
    words.push(workspace.path("target/release/netsensor").to_string_lossy().into_owned());
    words.push("run".to_owned());
    words.extend_from_slice(args);
    let [program, rest @ ..] = words.as_slice() else { bail!("no program to run") };
    // The working directory is kept, so that relative paths in the arguments stay valid.
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("run {program}"))
}

/// Command prefix of the agent: empty for root, sudo for other users.
fn command_prefix(is_root: bool, has_sudo: bool) -> anyhow::Result<Vec<String>> {
    match (is_root, has_sudo) {
        (true, _) => Ok(Vec::new()),
        (false, true) => Ok(["sudo", "-E"].map(str::to_owned).into()),
        (false, false) => bail!(
            "run: BPF programs need root (or CAP_BPF and CAP_PERFMON), and sudo is not installed; \
             run target/release/netsensor run as root"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_used_only_if_needed_and_installed() {
        assert_eq!(command_prefix(true, false).unwrap(), [""; 0]);
        assert_eq!(command_prefix(false, true).unwrap(), ["sudo", "-E"]);
        let error = command_prefix(false, false).unwrap_err().to_string();
        assert!(error.contains("sudo is not installed"), "{error}");
    }
}
