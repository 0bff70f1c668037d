//! Cursors: how far each sink is, in a small file beside the log.
//!
//! A slot of 128 bytes a sink: name (64, ended by zeros), the number of the first alert that is not
//! settled u64, crc32 u32 of these. A slot never crosses a sector, and is written in place without a
//! sync: what power loss takes of it sends alerts again, whose ids are the same. A slot that is
//! damaged counts as none.

use std::io;

use super::frame::take;
use super::storage::{Storage, StorageFile};

/// The file's name.
pub(super) const FILE: &str = "cursors";
const NEW: &str = "cursors.new";
/// Bytes of a name at most.
pub(super) const NAME_MAX: usize = 64;
const SLOT: usize = 128;
/// Sinks at most.
pub(super) const SINKS_MAX: usize = 1024;

/// Name and cursor of each sink that the file knows; none where there is no file.
pub(super) fn load(storage: &dyn Storage) -> io::Result<Vec<(String, u64)>> {
    match storage.read_at(FILE, 0, SLOT * SINKS_MAX) {
        Ok(bytes) => Ok(bytes.chunks(SLOT).filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(slot: &[u8]) -> Option<(String, u64)> {
    let covered = slot.get(..NAME_MAX + 8)?;
    let mut rest = slot;
    let name: [u8; NAME_MAX] = take(&mut rest)?;
    let cursor = u64::from_le_bytes(take(&mut rest)?);
    let crc = u32::from_le_bytes(take(&mut rest)?);
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    (crc == crc32fast::hash(covered)).then(|| (name.to_owned(), cursor))
}

fn slot((name, cursor): &(String, u64)) -> Vec<u8> {
    let mut slot: Vec<u8> = name.bytes().take(NAME_MAX).collect();
    slot.resize(NAME_MAX, 0);
    slot.extend(cursor.to_le_bytes());
    slot.extend(crc32fast::hash(&slot).to_le_bytes());
    slot.resize(SLOT, 0);
    slot
}

/// The file, open to write.
#[derive(Debug, Default)]
pub(super) struct CursorFile {
    file: Option<Box<dyn StorageFile>>,
}

impl CursorFile {
    /// Whether the file is as memory wants it, but for single slots.
    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Writes the slots `changed` of `all`; all of them, into a new file, the first time and after
    /// an error.
    pub(super) fn save(
        &mut self,
        storage: &dyn Storage,
        all: &[(String, u64)],
        changed: &[usize],
    ) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            self.file = Some(replace(storage, all)?);
            return Ok(());
        };
        for place in changed {
            if let Some(cursor) = all.get(*place) {
                file.write_at((place * SLOT) as u64, &slot(cursor))?;
            }
        }
        self.file = Some(file);
        Ok(())
    }
}

/// A file with `all` and nothing else, in one step.
pub(super) fn replace(
    storage: &dyn Storage,
    all: &[(String, u64)],
) -> io::Result<Box<dyn StorageFile>> {
    let mut file = storage.create(NEW)?;
    let bytes: Vec<u8> = all.iter().flat_map(slot).collect();
    file.write_at(0, &bytes)?;
    file.sync()?;
    storage.rename(NEW, FILE)?;
    storage.sync_dir()?;
    Ok(file)
}
