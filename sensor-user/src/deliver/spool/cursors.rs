//! Cursors: the delivery position of each sink, in a small file beside the log.
//!
//! The file has one slot of 128 bytes per sink:
//!
//! ```text
//! name, 64 bytes, padded with zeros | cursor u64 | crc32 u32 of these | zeros
//! ```
//!
//! The cursor is the number of the first alert that is not acknowledged. A slot does not cross a
//! sector, and is written in place without a sync: if power loss takes it, alerts are sent again,
//! with the same ids. A damaged slot is ignored.

use std::io;

use super::storage::{Storage, StorageFile, replace};
use crate::base::framing::LittleEndian;

/// Name of the file.
pub(super) const FILE: &str = "cursors";
/// Bytes of a sink's name at most.
pub(super) const NAME_MAX: usize = 64;
const SLOT: usize = 128;
/// Maximum number of sinks.
pub(super) const SINKS_MAX: usize = 1024;

/// Name and cursor of each sink in the file; none if there is no file.
pub(super) fn load(storage: &dyn Storage) -> io::Result<Vec<(String, u64)>> {
    match storage.read_at(FILE, 0, SLOT * SINKS_MAX) {
        Ok(bytes) => Ok(bytes.chunks(SLOT).filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(slot: &[u8]) -> Option<(String, u64)> {
    let mut fields = LittleEndian(slot);
    let name = fields.bytes(NAME_MAX)?.split(|byte| *byte == 0).next()?;
    let (cursor, crc) = (fields.u64()?, fields.u32()?);
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    (crc == crc32fast::hash(slot.get(..NAME_MAX + 8)?)).then(|| (name.to_owned(), cursor))
}

fn encode((name, cursor): &(String, u64)) -> Vec<u8> {
    let mut slot: Vec<u8> = name.bytes().take(NAME_MAX).collect();
    slot.resize(NAME_MAX, 0);
    slot.extend(cursor.to_le_bytes());
    slot.extend(crc32fast::hash(&slot).to_le_bytes());
    slot.resize(SLOT, 0);
    slot
}

/// Writes a file with `all`, and nothing else, in one step.
pub(super) fn write_all(
    storage: &dyn Storage,
    all: &[(String, u64)],
) -> io::Result<Box<dyn StorageFile>> {
    replace(storage, FILE, &all.iter().flat_map(encode).collect::<Vec<u8>>())
}

/// Open file of cursors.
#[derive(Debug, Default)]
pub(super) struct CursorFile {
    file: Option<Box<dyn StorageFile>>,
}

impl CursorFile {
    /// True if the file exists and only needs changed slots.
    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Writes the slots `changed` of `all`. The first time, and after an error, writes a new file
    /// with all of them.
    pub(super) fn save(
        &mut self,
        storage: &dyn Storage,
        all: &[(String, u64)],
        changed: &[usize],
    ) -> io::Result<()> {
        let file = match self.file.take() {
            None => write_all(storage, all)?,
            Some(mut file) => {
                for slot in changed {
                    if let Some(cursor) = all.get(*slot) {
                        file.write_at((slot * SLOT) as u64, &encode(cursor))?;
                    }
                }
                file
            }
        };
        self.file = Some(file);
        Ok(())
    }
}
