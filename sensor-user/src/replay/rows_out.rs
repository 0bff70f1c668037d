//! Where a replay's rows go: a file of JSON lines, or one Parquet file a table in a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::at::ReplayError;
use crate::schema::TableRow;
use crate::schema::parquet::TableFile;

/// Lines that are turned into columns together.
const LINES: u32 = 1024;

/// An output of rows.
#[derive(Debug)]
pub(super) struct RowsOut {
    path: PathBuf,
    form: Form,
    rows: u64,
}

#[derive(Debug)]
enum Form {
    Lines(BufWriter<File>),
    Tables(BTreeMap<&'static str, Gathered>),
}

/// A table's file, and lines that are not in it yet.
#[derive(Debug)]
struct Gathered {
    file: TableFile,
    lines: String,
    waiting: u32,
}

impl RowsOut {
    /// A folder where `path` is one, else a file.
    pub(super) fn open(path: &Path) -> Result<Self, ReplayError> {
        let form = if path.is_dir() {
            Form::Tables(BTreeMap::new())
        } else {
            let failed = |source| ReplayError::WriteRows { path: path.to_owned(), source };
            Form::Lines(BufWriter::new(File::create(path).map_err(failed)?))
        };
        Ok(Self { path: path.to_owned(), form, rows: 0 })
    }

    pub(super) fn write(&mut self, row: &TableRow) -> Result<(), ReplayError> {
        // Serialisation fails only for maps with keys that are not text.
        let mut line = serde_json::to_string(row).unwrap_or_default();
        line.push('\n');
        self.rows += 1;
        match &mut self.form {
            Form::Lines(out) => {
                let path = &self.path;
                out.write_all(line.as_bytes())
                    .map_err(|source| ReplayError::WriteRows { path: path.clone(), source })
            }
            Form::Tables(tables) => {
                let table = row.table();
                let gathered = match tables.entry(table.name) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Gathered {
                        file: TableFile::new(table)?,
                        lines: String::new(),
                        waiting: 0,
                    }),
                };
                gathered.lines.push_str(&line);
                gathered.waiting += 1;
                if gathered.waiting < LINES { Ok(()) } else { gathered.settle() }
            }
        }
    }

    /// Writes what is left; gives how many rows there were.
    pub(super) fn finish(self) -> Result<u64, ReplayError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReplayError::WriteRows { path, source }
        };
        match self.form {
            Form::Lines(mut out) => out.flush().map_err(failed(&self.path))?,
            Form::Tables(tables) => {
                for (name, mut gathered) in tables {
                    gathered.settle()?;
                    let path = self.path.join(format!("{name}.parquet"));
                    let bytes = gathered.file.finish()?;
                    std::fs::write(&path, bytes).map_err(failed(&path))?;
                }
            }
        }
        Ok(self.rows)
    }
}

impl Gathered {
    fn settle(&mut self) -> Result<(), ReplayError> {
        self.waiting = 0;
        match self.file.append(&std::mem::take(&mut self.lines))? {
            0 => Ok(()),
            refused => Err(ReplayError::RowsRefused(refused)),
        }
    }
}
