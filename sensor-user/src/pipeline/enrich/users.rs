//! `Users`: user names, from `/etc/passwd`. NSS is not used: it may query a server, and the
//! pipeline must not wait.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// User names by id; the file is read again if it has changed and an id is unknown.
#[derive(Debug)]
pub(super) struct Users {
    passwd: PathBuf,
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

/// Maximum size of the file, bytes.
const PASSWD_MAX: u64 = 16 << 20;

impl Users {
    pub(super) fn new(passwd: &Path) -> Self {
        let mut users = Self { passwd: passwd.to_owned(), modified: None, names: HashMap::new() };
        users.read_if_changed();
        users
    }

    /// Name of the user, or the id as text.
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

/// Parses `name:password:uid:…` ([passwd(5)](https://man7.org/linux/man-pages/man5/passwd.5.html)).
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
