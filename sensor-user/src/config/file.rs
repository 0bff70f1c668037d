//! The configuration's file: who may have written it, and what it says.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::MAX_FILE;
use super::{Config, ConfigError};
use crate::base::environment::Environment;

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;
/// In such a folder only its owner replaces a file.
const STICKY: u32 = 0o1000;

/// Where the configuration of a host's service is.
pub const SERVICE_FILE: &str = "/etc/netsensor/netsensor.toml";
/// Where the state of that service is: the `StateDirectory=` of its unit.
const SERVICE_STATE: &str = "/var/lib/netsensor";

impl Config {
    /// Reads and checks the file at `path`. One that others than its owner can change is refused:
    /// it decides what runs with privileges, and where alerts go.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let (text, file) = text(path)?;
        may_be_trusted(path, &file)?;
        Self::parse(&text, path, &of_service(path, environment))
    }

    /// The same where nothing is done with it. Also gives why the agent would not take it from
    /// there.
    pub fn look_at(
        path: &Path,
        environment: &Environment,
    ) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let (text, file) = text(path)?;
        let config = Self::parse(&text, path, &of_service(path, environment))?;
        Ok((config, may_be_trusted(path, &file).err()))
    }
}

/// The environment, as the service has it where its file is read: who asks on a terminal asks for the
/// state that systemd tells the service of.
fn of_service(path: &Path, environment: &Environment) -> Environment {
    let mut environment = environment.clone();
    if path == Path::new(SERVICE_FILE) && environment.state_directory.is_none() {
        environment.state_directory = Some(SERVICE_STATE.into());
    }
    environment
}

fn text(path: &Path) -> Result<(String, Metadata), ConfigError> {
    let read = || {
        let file = File::open(path)?;
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

fn may_be_trusted(path: &Path, file: &Metadata) -> Result<(), ConfigError> {
    let refuse = |path: &Path, mode: u32| {
        Err(ConfigError::Writable { path: path.to_owned(), mode: mode & 0o7777 })
    };
    // A pipe, as `--config /dev/fd/3` has, is nobody else's.
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
    fn what_others_can_change_is_refused_with_what_to_do() {
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
        for (file, dir, told) in [
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
            assert!(error.contains(told), "{error}");
        }
        let looked = Config::look_at(&path, &Environment::default()).unwrap();
        assert!(looked.1.is_some(), "what it says can be looked at");
    }

    #[test]
    fn the_service_has_its_state_where_its_unit_says() {
        let home = Environment { home: Some("/h".into()), ..Environment::default() };
        let state = |path: &str, environment: &Environment| {
            of_service(Path::new(path), environment).state_dir()
        };
        assert_eq!(state(SERVICE_FILE, &home).unwrap(), Path::new(SERVICE_STATE));
        assert_eq!(state("/x.toml", &home).unwrap(), Path::new("/h/.local/state/netsensor"));
        let unit = Environment { state_directory: Some("/var/lib/other".into()), ..home };
        assert_eq!(state(SERVICE_FILE, &unit).unwrap(), Path::new("/var/lib/other"));
    }

    #[test]
    fn a_link_is_judged_by_what_it_leads_to() {
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
