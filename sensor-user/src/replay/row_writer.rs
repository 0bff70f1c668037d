//! `RowWriter`: output of a replay's rows, as a file of JSON lines or a directory with one Parquet file
//! per table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::options::ReplayError;
use crate::schema::TableRow;
use crate::schema::parquet::TableFile;

/// Lines that are converted to columns at once.
const BATCH_LINES: u32 = 1024;

/// Writer of rows, in the format that the path selects.
#[derive(Debug)]
pub(super) struct RowWriter {
    path: PathBuf,
    format: RowFormat,
    rows: u64,
}

#[derive(Debug)]
enum RowFormat {
    Lines(BufWriter<File>),
    Tables(BTreeMap<&'static str, TableOutput>),
}

/// A table's file, with lines that are not appended yet.
#[derive(Debug)]
struct TableOutput {
    file: TableFile,
    lines: String,
    pending: u32,
}

impl RowWriter {
    /// Writes Parquet files if `path` is a directory, else a file.
    pub(super) fn open(path: &Path) -> Result<Self, ReplayError> {
        let format = if path.is_dir() {
            RowFormat::Tables(BTreeMap::new())
        } else {
            let failed = |source| ReplayError::WriteRows { path: path.to_owned(), source };
            RowFormat::Lines(BufWriter::new(File::create(path).map_err(failed)?))
        };
        Ok(Self { path: path.to_owned(), format, rows: 0 })
    }

    pub(super) fn write(&mut self, row: &TableRow) -> Result<(), ReplayError> {
        // Serialisation fails only for maps with keys that are not text.
        let mut line = serde_json::to_string(row).unwrap_or_default();
        line.push('\n');
        self.rows += 1;
        match &mut self.format {
            RowFormat::Lines(out) => {
                let path = &self.path;
                out.write_all(line.as_bytes())
                    .map_err(|source| ReplayError::WriteRows { path: path.clone(), source })
            }
            RowFormat::Tables(tables) => {
                let table = row.table();
                let output = match tables.entry(table.name) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(TableOutput {
                            file: TableFile::new(table)?,
                            lines: String::new(),
                            pending: 0,
                        })
                    }
                };
                output.lines.push_str(&line);
                output.pending += 1;
                if output.pending < BATCH_LINES { Ok(()) } else { output.flush() }
            }
        }
    }

    /// Writes pending rows and completes the files. Returns the number of rows.
    pub(super) fn finish(self) -> Result<u64, ReplayError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReplayError::WriteRows { path, source }
        };
        match self.format {
            RowFormat::Lines(mut out) => out.flush().map_err(failed(&self.path))?,
            RowFormat::Tables(tables) => {
                for (name, mut output) in tables {
                    output.flush()?;
                    let path = self.path.join(format!("{name}.parquet"));
                    let bytes = output.file.finish()?;
                    std::fs::write(&path, bytes).map_err(failed(&path))?;
                }
            }
        }
        Ok(self.rows)
    }
}

impl TableOutput {
    fn flush(&mut self) -> Result<(), ReplayError> {
        self.pending = 0;
        match self.file.append(&std::mem::take(&mut self.lines))? {
            0 => Ok(()),
            refused => Err(ReplayError::RowsRefused(refused)),
        }
    }
}
