//! Names of users, from `/etc/passwd` (no NSS: it may ask a network, and the path must not wait).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// User id to name; read again when the file has changed and an id is not known.
#[derive(Debug)]
pub(super) struct Users {
    passwd: PathBuf,
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

/// Bytes of the file that are read at most.
const PASSWD_MAX: u64 = 16 << 20;

impl Users {
    pub(super) fn new(passwd: &Path) -> Self {
        let mut users = Self { passwd: passwd.to_owned(), modified: None, names: HashMap::new() };
        users.read_if_changed();
        users
    }

    /// Name of the user, or the number as text.
    pub(super) fn name(&mut self, uid: u32) -> String {
        if !self.names.contains_key(&uid) {
            self.read_if_changed();
        }
        self.names.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    fn read_if_changed(&mut self) {
        let Ok(metadata) = std::fs::metadata(&self.passwd) else { return };
        let modified = metadata.modified().ok();
        if (modified.is_some() && modified == self.modified) || metadata.len() > PASSWD_MAX {
            return;
        }
        let Ok(text) = std::fs::read(&self.passwd) else { return };
        self.modified = modified;
        self.names = String::from_utf8_lossy(&text).lines().filter_map(entry).collect();
    }
}

/// `name:password:uid:…` of passwd(5).
fn entry(line: &str) -> Option<(u32, String)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    Some((uid, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_for_an_unknown_user() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "root:x:0:0::/root:/bin/sh\nbad line\n").unwrap();
        let mut users = Users::new(file.path());
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(1234), "1234");
        std::fs::write(file.path(), "root:x:0:0::/:/bin/sh\nann:x:1234:1::/:/bin/sh\n").unwrap();
        let later = std::fs::metadata(file.path()).unwrap().modified().unwrap()
            + std::time::Duration::from_secs(2);
        std::fs::File::options()
            .write(true)
            .open(file.path())
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert_eq!(users.name(1234), "ann");
    }
}
