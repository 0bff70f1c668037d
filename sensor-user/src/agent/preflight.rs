//! `preflight`: checks of what a configuration names on this host, before anything is started.
//!
//! A wrong name is an error of the configuration, so that `run` ends with status 2, as `check-config` does,
//! and is not restarted in a loop.

use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Group;

use crate::base::escape::escaped;
use crate::base::regular_file;
use crate::config::Config;
use crate::intel::read_allowed;
use crate::telemetry::metrics::Listen;

/// Start of an ELF file for the BPF machine: magic, and `e_machine` at offset 18 (elf(5)).
const ELF_MAGIC: &[u8] = b"\x7fELF";
const EM_BPF: [u8; 2] = 247_u16.to_le_bytes();

/// Least number of file descriptors: probes, maps, workers and sinks, with room for requests.
const DESCRIPTORS_MIN: u64 = 256;
/// Number of file descriptors to which the limit is raised, as in the packaged unit.
const DESCRIPTORS_MAX: u64 = 65_536;

/// A name in the configuration, or a limit, cannot be used on this host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PreflightError(String);

/// Raises the limit of file descriptors to what this process may have, and checks that it is enough.
pub fn raise_descriptor_limit() -> Result<(), PreflightError> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let wanted = hard.min(DESCRIPTORS_MAX).max(soft);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    check_descriptors(if raised.is_ok() { wanted } else { soft })
}

fn check_descriptors(limit: u64) -> Result<(), PreflightError> {
    if limit >= DESCRIPTORS_MIN {
        return Ok(());
    }
    Err(PreflightError(format!(
        "the limit of open files is {limit}, and the agent needs at least {DESCRIPTORS_MIN}; raise \
         LimitNOFILE= of the unit, or ulimit -n"
    )))
}

/// Checks the files, groups and sockets that `config` names. Returns the first problem.
pub fn preflight(config: &Config) -> Result<(), PreflightError> {
    read_allowed(&config.allow.files).map_err(|error| PreflightError(error.to_string()))?;
    if let Some(path) = &config.capture.object {
        let refused = |problem: String| {
            let remedy = "set capture.object to a BPF object of netsensor, or leave it out";
            PreflightError(format!("capture.object: {}: {problem}; {remedy}", path.display()))
        };
        check_object(path).map_err(refused)?;
    }
    if let Some(path) = &config.agent.control_socket {
        check_socket("agent.control_socket", path)?;
    }
    if let Some(metrics) = &config.metrics {
        if let Listen::Unix(path) = &metrics.listen {
            check_socket("metrics.listen", path)?;
        }
        if let Some(group) = &metrics.group {
            check_group("metrics.group", group)?;
        }
    }
    Ok(())
}

fn check_object(path: &Path) -> Result<(), String> {
    let file = regular_file::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => "is not a file".to_owned(),
        _ => error.to_string(),
    })?;
    let mut head = Vec::new();
    file.take(20).read_to_end(&mut head).map_err(|error| error.to_string())?;
    if head.starts_with(ELF_MAGIC) && head.get(18..20) == Some(&EM_BPF) {
        Ok(())
    } else {
        Err("is not a BPF object".to_owned())
    }
}

/// Checks that a socket can be made at `path`.
fn check_socket(key: &str, path: &Path) -> Result<(), PreflightError> {
    if std::fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
        let path = path.display();
        let problem = format!("{key}: {path} exists and is not a socket; set another path");
        return Err(PreflightError(problem));
    }
    // Its directory may be made by systemd at the start of the unit (RuntimeDirectory=).
    Ok(())
}

fn check_group(key: &str, name: &str) -> Result<(), PreflightError> {
    match Group::from_name(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(PreflightError(format!(
            "{key}: group \"{}\" does not exist; create it, or set another",
            escaped(name, 64)
        ))),
        Err(error) => {
            Err(PreflightError(format!("{key}: look up \"{}\": {error}", escaped(name, 64))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::environment::Environment;

    #[test]
    fn too_few_descriptors_are_refused_with_their_number() {
        check_descriptors(256).unwrap();
        assert_eq!(
            check_descriptors(64).unwrap_err().to_string(),
            "the limit of open files is 64, and the agent needs at least 256; raise LimitNOFILE= of the \
             unit, or ulimit -n"
        );
    }

    #[test]
    fn a_name_that_this_host_does_not_have_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        for (name, text) in [("junk.o", "junk"), ("x86.o", "\x7fELF\x02\x01\x01"), ("file", "")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let problem = |text: &str| {
            let text = format!("[agent]\nstate_dir = '/s'\n{}", text.replace("ROOT", &root));
            let config = Config::parse(&text, Path::new("/n.toml"), &Environment::default());
            let checked = preflight(&config.unwrap()).err();
            checked.map(|error| error.to_string().replace(&root, "ROOT")).unwrap_or_default()
        };
        let object = "set capture.object to a BPF object of netsensor, or leave it out";
        for (text, expected) in [
            (
                "[capture]\nobject = 'ROOT/none'",
                format!(
                    "capture.object: ROOT/none: No such file or directory (os error 2); {object}"
                ),
            ),
            (
                "[capture]\nobject = 'ROOT/junk.o'",
                format!("capture.object: ROOT/junk.o: is not a BPF object; {object}"),
            ),
            (
                "[capture]\nobject = 'ROOT/x86.o'",
                format!("capture.object: ROOT/x86.o: is not a BPF object; {object}"),
            ),
            (
                "[capture]\nobject = 'ROOT/fifo'",
                format!("capture.object: ROOT/fifo: is not a file; {object}"),
            ),
            (
                "control_socket = 'ROOT/file'",
                "agent.control_socket: ROOT/file exists and is not a socket; set another path"
                    .to_owned(),
            ),
            (
                "[metrics]\nlisten = 'unix:ROOT/file'",
                "metrics.listen: ROOT/file exists and is not a socket; set another path".to_owned(),
            ),
            (
                "[metrics]\nlisten = 'unix:ROOT/m.sock'\ngroup = 'no-such-group'",
                "metrics.group: group \"no-such-group\" does not exist; create it, or set another"
                    .to_owned(),
            ),
            ("[metrics]\nlisten = 'unix:ROOT/m.sock'\ngroup = 'root'", String::new()),
            ("control_socket = 'ROOT/a.sock'", String::new()),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
        let missing = problem("[allow]\nfiles = ['ROOT/none']");
        assert!(missing.starts_with("allow.files: ROOT/none: No such file"), "{missing}");
    }
}
