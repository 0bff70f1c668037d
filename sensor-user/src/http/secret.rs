//! Secrets: references to them, never their contents. They are read again when they are needed, so
//! that a changed secret takes effect.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::regular_file;

/// Maximum size of a secret, bytes.
pub(crate) const SECRET_MAX: u64 = 64 << 10;

/// Reference to a secret: its own file, or a credential that systemd passes to the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// Absolute path of the file.
    File(PathBuf),
    /// Credential of the unit (`LoadCredential=`, systemd.exec(5)).
    Credential {
        /// Name of the credential.
        name: String,
        /// `CREDENTIALS_DIRECTORY`, which systemd sets for a unit with credentials.
        folder: Option<PathBuf>,
    },
}

/// Why a secret cannot be read. The text never contains the contents of the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The process has no credentials directory.
    #[error(
        "credential {0}: CREDENTIALS_DIRECTORY is not set; add LoadCredential={0}:PATH to the unit"
    )]
    NoCredentials(String),
    /// The file cannot be read.
    #[error("{}: cannot be read by the agent's user", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The contents cannot be a secret.
    #[error("{}: {what}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// The reason, and the remedy.
        what: &'static str,
    },
}

/// Contents of a secret, with a `Debug` that hides them.
pub(crate) struct SecretText(String);

impl Secret {
    /// Path of the file that contains it.
    pub fn path(&self) -> Result<PathBuf, SecretError> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential { name, folder: Some(folder) } => Ok(folder.join(name)),
            Self::Credential { name, folder: None } => {
                Err(SecretError::NoCredentials(name.clone()))
            }
        }
    }

    /// Reads the secret: one line, without its line end. A pipe or a device is refused, since reading it
    /// could block.
    pub(crate) fn read(&self) -> Result<SecretText, SecretError> {
        let path = self.path()?;
        let bytes = read_bounded(&path, SECRET_MAX)?;
        let content = |what| SecretError::Content { path: path.clone(), what };
        let text = String::from_utf8(bytes).map_err(|_not_text: std::string::FromUtf8Error| {
            content("is not text; a secret is one line of UTF-8")
        })?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(content("is empty; write the secret into it"));
        }
        if line.chars().any(char::is_control) {
            return Err(content("has more than one line; a secret is one line"));
        }
        Ok(SecretText(line.to_owned()))
    }

    /// Reads a secret of several lines.
    pub(crate) fn read_lines(&self) -> Result<SecretText, SecretError> {
        let path = self.path()?;
        let text = String::from_utf8(read_bounded(&path, SECRET_MAX)?);
        text.map(SecretText).map_err(|_not_text: std::string::FromUtf8Error| SecretError::Content {
            path,
            what: "is not text; use a text file",
        })
    }

    /// True if all users of this host may read it.
    pub(crate) fn is_world_readable(&self) -> bool {
        let mode = self.path().ok().and_then(|path| path.metadata().ok());
        mode.is_some_and(|it| it.permissions().mode() & 0o004 != 0)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential { name, .. } => write!(f, "credential {name}"),
        }
    }
}

impl SecretText {
    /// The text itself; not for a log.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Contents of a regular file of at most `max` bytes: a secret, a key or certificates.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::Content {
            path: path.to_owned(),
            what: "is not a regular file; use one",
        });
    }
    let mut bytes = Vec::new();
    let file = regular_file::open(path).map_err(failed)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(SecretError::Content {
            path: path.to_owned(),
            what: "is too large for a secret, key or CA bundle; use the right file",
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_read_again_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let secret = Secret::File(path.clone());
        for (content, read) in [
            (&b"a b\n"[..], Ok("a b")),
            (b"a\r\n", Ok("a")),
            (b" a ", Ok(" a ")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"a\nb\n", Err("more than one line")),
            (b"\xff", Err("is not text")),
        ] {
            std::fs::write(&path, content).unwrap();
            match (secret.read(), read) {
                (Ok(found), Ok(text)) => assert_eq!(found.text(), text),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
        std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert!(secret.read().unwrap_err().to_string().contains("is too large"));
        let error = Secret::File(folder.path().to_owned()).read().unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        let error = Secret::File(folder.path().join("absent")).read().unwrap_err().to_string();
        assert!(error.contains("absent: cannot be read"), "{error}");
    }

    #[test]
    fn a_credential_is_in_the_directory_of_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("taxii"), "pw\n").unwrap();
        let name = || "taxii".to_owned();
        let present = Secret::Credential { name: name(), folder: Some(folder.path().to_owned()) };
        assert_eq!(present.read().unwrap().text(), "pw");
        assert_eq!(format!("{:?}", present.read().unwrap()), "…");
        let absent = Secret::Credential { name: name(), folder: None };
        let error = absent.read().unwrap_err().to_string();
        assert!(error.contains("LoadCredential=taxii:PATH"), "{error}");
    }
}
