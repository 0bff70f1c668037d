//! Columnar: rows of one table as a Parquet file, built in memory.
//!
//! The columns are those of [`super`], always all of them, so that files of any age can be
//! read as one. What is a row as JSON is a row here: both come from the same serde names.

mod arrow;

use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Table;

pub use arrow::{arrow_schema, parquet_schema};

/// Rows that are decoded together.
const BATCH_ROWS: usize = 1024;
/// zstd's own default level: a fifth smaller than level 1, at some twice the time.
const ZSTD_LEVEL: i32 = 3;

/// Why rows are in no file.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// The writer of the crate refused; a defect.
    #[error("write Parquet")]
    Parquet(#[from] ParquetError),
    /// The reader of the crate refused its schema; a defect.
    #[error("read rows into columns")]
    Arrow(#[from] ArrowError),
}

/// A Parquet file in the making.
pub struct TableFile {
    schema: SchemaRef,
    decoder: Decoder,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl TableFile {
    /// An empty file of `table`.
    pub fn new(table: &Table) -> Result<Self, ColumnarError> {
        let schema = arrow_schema(table);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_created_by(concat!("netsensor ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        Ok(Self { decoder: decoder(&schema)?, schema, writer, rows: 0 })
    }

    /// Appends rows, a JSON object a line; gives how many of them do not fit the columns, and are
    /// left out.
    pub fn append(&mut self, lines: &str) -> Result<u64, ColumnarError> {
        let lines: Vec<&str> = lines.lines().collect();
        let mut refused = 0;
        for some in lines.chunks(BATCH_ROWS) {
            if self.append_all(some)? {
                continue;
            }
            // One row spoils its batch: one by one.
            for line in some {
                if !self.append_all(&[line])? {
                    refused += 1;
                }
            }
        }
        Ok(refused)
    }

    /// Appends all rows, or none where one does not fit.
    fn append_all(&mut self, lines: &[&str]) -> Result<bool, ColumnarError> {
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let decoded = self.decoder.decode(text.as_bytes()).and_then(|read| {
            // Less is read only where there are more rows than asked for.
            if read == text.len() { self.decoder.flush() } else { Ok(None) }
        });
        match decoded {
            Ok(Some(batch)) if batch.num_rows() == lines.len() => {
                self.writer.write(&batch)?;
                self.rows += batch.num_rows() as u64;
                Ok(true)
            }
            Ok(_) | Err(_) => {
                // What it read of them is in it still.
                self.decoder = decoder(&self.schema)?;
                Ok(false)
            }
        }
    }

    /// Rows in it.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that it takes in memory.
    pub fn memory(&self) -> usize {
        self.writer.memory_size().saturating_add(self.writer.inner().len())
    }

    /// The bytes of the file.
    pub fn finish(self) -> Result<Vec<u8>, ColumnarError> {
        Ok(self.writer.into_inner()?)
    }
}

impl std::fmt::Debug for TableFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TableFile").field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn decoder(schema: &SchemaRef) -> Result<Decoder, ArrowError> {
    // A member that is no column would be lost in silence otherwise.
    ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(BATCH_ROWS)
        .with_strict_mode(true)
        .build_decoder()
}

#[cfg(test)]
mod tests;
