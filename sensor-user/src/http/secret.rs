//! Secrets: where one stands, never what it is. They are read anew when they are needed, so
//! that one that is changed counts from then on.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A secret is not longer than this, bytes.
pub(crate) const MAX: u64 = 64 << 10;

/// Where a secret stands: a file of its own, or a credential that systemd hands to the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The file, absolute.
    File(PathBuf),
    /// A credential (`LoadCredential=`, systemd.exec(5)).
    Credential {
        /// Its name.
        name: String,
        /// `CREDENTIALS_DIRECTORY`, which systemd sets for a unit that has any.
        folder: Option<PathBuf>,
    },
}

/// Why a secret cannot be had. It never says what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No folder of credentials.
    #[error(
        "credential {0}: CREDENTIALS_DIRECTORY is not set; add LoadCredential={0}:PATH to the unit"
    )]
    NoCredentials(String),
    /// The file is not to be read.
    #[error("{}: cannot be read by the agent's user", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no secret.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why, and what it should be.
        what: &'static str,
    },
}

/// What a secret is. Its `Debug` says nothing of it.
pub(crate) struct Revealed(String);

impl Secret {
    /// The file that it is in.
    pub fn path(&self) -> Result<PathBuf, SecretError> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential { name, folder: Some(folder) } => Ok(folder.join(name)),
            Self::Credential { name, folder: None } => {
                Err(SecretError::NoCredentials(name.clone()))
            }
        }
    }

    /// Reads it: one line without its end. A pipe or a device is refused rather than waited for.
    pub(crate) fn read(&self) -> Result<Revealed, SecretError> {
        let path = self.path()?;
        let bytes = read_bounded(&path, MAX)?;
        let content = |what| SecretError::Content { path: path.clone(), what };
        let text = String::from_utf8(bytes).map_err(|_not_text: std::string::FromUtf8Error| {
            content("is not text; a secret is one line of UTF-8")
        })?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(content("is empty; put the secret into it"));
        }
        if line.chars().any(char::is_control) {
            return Err(content("has more than one line; a secret is one line"));
        }
        Ok(Revealed(line.to_owned()))
    }

    /// Reads a secret that has several lines.
    pub(crate) fn read_lines(&self) -> Result<Revealed, SecretError> {
        let path = self.path()?;
        let text = String::from_utf8(read_bounded(&path, MAX)?);
        text.map(Revealed).map_err(|_not_text: std::string::FromUtf8Error| SecretError::Content {
            path,
            what: "is not text; name the right file",
        })
    }

    /// Whether all users of this host may read it.
    pub(crate) fn is_open_to_all(&self) -> bool {
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

impl Revealed {
    /// The text itself; not for a log.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A regular file of `max` bytes at most: a secret, a key or certificates.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::Content {
            path: path.to_owned(),
            what: "is not a regular file; name one",
        });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(SecretError::Content {
            path: path.to_owned(),
            what: "is larger than such a file is; name the right one",
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_read_anew_each_time() {
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
                (Err(error), Err(told)) => assert!(error.to_string().contains(told), "{error}"),
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
        std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert!(secret.read().unwrap_err().to_string().contains("is larger than"));
        let error = Secret::File(folder.path().to_owned()).read().unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        let error = Secret::File(folder.path().join("absent")).read().unwrap_err().to_string();
        assert!(error.contains("absent: cannot be read"), "{error}");
    }

    #[test]
    fn a_credential_is_in_the_folder_of_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("taxii"), "pw\n").unwrap();
        let name = || "taxii".to_owned();
        let there = Secret::Credential { name: name(), folder: Some(folder.path().to_owned()) };
        assert_eq!(there.read().unwrap().text(), "pw");
        assert_eq!(format!("{:?}", there.read().unwrap()), "…");
        let absent = Secret::Credential { name: name(), folder: None };
        let error = absent.read().unwrap_err().to_string();
        assert!(error.contains("LoadCredential=taxii:PATH"), "{error}");
    }
}
