//! Builds the agent and becomes it, with the privileges that loading BPF programs takes.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use crate::host::{self, Workspace};

/// Runs `netsensor run` with `args`; returns only when that was not possible.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<ExitCode> {
    // The first time takes minutes, so cargo says what it does.
    host::run(workspace.cargo().args(host::BUILD_AGENT)).context("build the agent")?;
    let has_sudo = host::find_program("sudo", &[]).is_some();
    let mut words = command_line(host::is_root(), has_sudo)?;
    words.push(workspace.path("target/release/netsensor").to_string_lossy().into_owned());
    words.push("run".to_owned());
    words.extend_from_slice(args);
    let [program, rest @ ..] = words.as_slice() else { bail!("nothing to run") };
    // The caller's directory stays, so that relative paths in the arguments mean what they say.
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("run {program}"))
}

/// What comes before the agent: nothing for root, sudo for others.
fn command_line(is_root: bool, has_sudo: bool) -> anyhow::Result<Vec<String>> {
    match (is_root, has_sudo) {
        (true, _) => Ok(Vec::new()),
        (false, true) => Ok(["sudo", "-E"].map(str::to_owned).into()),
        (false, false) => bail!(
            "run: BPF programs need root (or CAP_BPF and CAP_PERFMON), and there is no sudo here; \
             run target/release/netsensor run as root"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_only_for_those_who_need_it_and_have_it() {
        assert_eq!(command_line(true, false).unwrap(), [""; 0]);
        assert_eq!(command_line(false, true).unwrap(), ["sudo", "-E"]);
        let error = command_line(false, false).unwrap_err().to_string();
        assert!(error.contains("no sudo here"), "{error}");
    }
}
