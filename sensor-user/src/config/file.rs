//! Reads the configuration file, and checks that only its owner can write it.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::MAX_FILE;
use super::{Config, ConfigError};
use crate::base::environment::Environment;
use crate::base::regular_file;
use crate::base::regular_file::{OTHERS_WRITE, STICKY};

/// Path of the configuration of a host's service.
pub const SERVICE_FILE: &str = "/etc/netsensor/netsensor.toml";
/// State directory of that service: the `StateDirectory=` of its unit.
const SERVICE_STATE: &str = "/var/lib/netsensor";

impl Config {
    /// Reads and checks the file at `path`. A file that users other than its owner can change is
    /// refused, because it controls what runs with privileges and the destination of alerts.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let (text, file) = read_text(path)?;
        check_permissions(path, &file)?;
        Self::parse(&text, path, &service_environment(path, environment))
    }

    /// Reads and checks the file without using it. Returns the reason for which [`load`](Self::load)
    /// refuses its permissions too.
    pub fn inspect(
        path: &Path,
        environment: &Environment,
    ) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let (text, file) = read_text(path)?;
        let config = Self::parse(&text, path, &service_environment(path, environment))?;
        Ok((config, check_permissions(path, &file).err()))
    }
}

/// The environment of the service, if `path` is its file: commands on a terminal then use the state
/// directory that systemd passes to the service.
fn service_environment(path: &Path, environment: &Environment) -> Environment {
    let mut environment = environment.clone();
    if path == Path::new(SERVICE_FILE) && environment.state_directory.is_none() {
        environment.state_directory = Some(SERVICE_STATE.into());
    }
    environment
}

fn read_text(path: &Path) -> Result<(String, Metadata), ConfigError> {
    let read = || {
        // A pipe of the shell, as with `--config /dev/fd/3`, has its writer already.
        let is_descriptor =
            ["/dev/fd", "/dev/stdin", "/proc"].iter().any(|it| path.starts_with(it));
        let file = if is_descriptor { File::open(path)? } else { regular_file::open(path)? };
        let metadata = file.metadata()?;
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text)?;
        Ok((text, metadata))
    };
    let (text, file) =
        read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > MAX_FILE {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok((text, file))
}

fn check_permissions(path: &Path, file: &Metadata) -> Result<(), ConfigError> {
    let refuse = |path: &Path, mode: u32| {
        Err(ConfigError::Writable { path: path.to_owned(), mode: mode & 0o7777 })
    };
    // A pipe, as with `--config /dev/fd/3`, has no permissions to check.
    if file.is_file() && file.mode() & OTHERS_WRITE != 0 {
        return refuse(path, file.mode());
    }
    let path = std::fs::canonicalize(path).unwrap_or_else(|_gone| PathBuf::from(path));
    if let Some(folder) = path.parent()
        && let Ok(metadata) = std::fs::metadata(folder)
        && metadata.mode() & OTHERS_WRITE != 0
        && metadata.mode() & STICKY == 0
    {
        return refuse(folder, metadata.mode());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_write_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netsensor.toml");
        std::fs::write(&path, "[agent]\nstate_dir = \"/tmp/x\"\n").unwrap();
        let load = |file: u32, dir: u32| {
            set_permissions(&path, Permissions::from_mode(file)).unwrap();
            set_permissions(folder.path(), Permissions::from_mode(dir)).unwrap();
            Config::load(&path, &Environment::default()).map_err(|error| error.to_string())
        };
        for (file, dir) in [(0o600, 0o700), (0o644, 0o755), (0o640, 0o1777), (0o444, 0o1770)] {
            assert!(load(file, dir).is_ok(), "{file:o} {dir:o}");
        }
        for (file, dir, message) in [
            (
                0o664,
                0o700,
                "netsensor.toml: can be written by its group or by everybody (mode 0664)",
            ),
            (0o602, 0o700, "(mode 0602); run chmod go-w "),
            (0o600, 0o770, "(mode 0770); run chmod go-w "),
            (0o600, 0o707, "(mode 0707)"),
        ] {
            let error = load(file, dir).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        let inspected = Config::inspect(&path, &Environment::default()).unwrap();
        assert!(inspected.1.is_some(), "it can be inspected");
    }

    #[test]
    fn the_service_uses_the_state_directory_of_its_unit() {
        let home = Environment { home: Some("/h".into()), ..Environment::default() };
        let state = |path: &str, environment: &Environment| {
            service_environment(Path::new(path), environment).state_dir()
        };
        assert_eq!(state(SERVICE_FILE, &home).unwrap(), Path::new(SERVICE_STATE));
        assert_eq!(state("/x.toml", &home).unwrap(), Path::new("/h/.local/state/netsensor"));
        let unit = Environment { state_directory: Some("/var/lib/other".into()), ..home };
        assert_eq!(state(SERVICE_FILE, &unit).unwrap(), Path::new("/var/lib/other"));
    }

    #[test]
    fn the_target_of_a_link_is_checked() {
        let (open, safe) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        let (file, link) = (open.path().join("real.toml"), safe.path().join("link.toml"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let environment = Environment { home: Some("/root".into()), ..Environment::default() };
        let error = Config::load(&link, &environment).unwrap_err().to_string();
        assert!(error.contains("(mode 0777)"), "{error}");
    }
}
