//! Rows of one table as a Parquet file, built in memory.
//!
//! A file always has all columns of its table, so that files of any age can be read together. Rows
//! come from their JSON, so both formats have the same names.

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

/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;
/// zstd's own default level: a fifth smaller than level 1, at some twice the time.
const ZSTD_LEVEL: i32 = 3;

/// Errors while a Parquet file is built.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// Error of the Parquet writer: a defect.
    #[error("write Parquet")]
    Parquet(#[from] ParquetError),
    /// Error of the JSON reader for its schema: a defect.
    #[error("read rows into columns")]
    Arrow(#[from] ArrowError),
}

/// A Parquet file under construction.
pub struct TableFile {
    schema: SchemaRef,
    decoder: Decoder,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl TableFile {
    /// Begins a file for `table`.
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

    /// Appends rows, one JSON object per line. Returns the number of rows that do not fit the columns
    /// and were skipped.
    pub fn append(&mut self, lines: &str) -> Result<u64, ColumnarError> {
        let lines: Vec<&str> = lines.lines().collect();
        let mut refused = 0;
        for batch in lines.chunks(BATCH_ROWS) {
            if self.append_all(batch)? {
                continue;
            }
            // One bad row fails its whole batch, so append them one by one.
            for line in batch {
                if !self.append_all(&[line])? {
                    refused += 1;
                }
            }
        }
        Ok(refused)
    }

    /// Appends all rows and returns true, or none if one does not fit.
    fn append_all(&mut self, lines: &[&str]) -> Result<bool, ColumnarError> {
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let decoded = self.decoder.decode(text.as_bytes()).and_then(|read| {
            // Less is read only if there are more rows than the batch size.
            if read == text.len() { self.decoder.flush() } else { Ok(None) }
        });
        match decoded {
            Ok(Some(batch)) if batch.num_rows() == lines.len() => {
                self.writer.write(&batch)?;
                self.rows += batch.num_rows() as u64;
                Ok(true)
            }
            Ok(_) | Err(_) => {
                // The old decoder still buffers the rows it read.
                self.decoder = decoder(&self.schema)?;
                Ok(false)
            }
        }
    }

    /// Returns the number of rows.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns its size in memory, in bytes.
    pub fn memory(&self) -> usize {
        self.writer.memory_size().saturating_add(self.writer.inner().len())
    }

    /// Completes the file and returns its bytes.
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
    // Without strict mode, a member without a column would be dropped silently.
    ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(BATCH_ROWS)
        .with_strict_mode(true)
        .build_decoder()
}

#[cfg(test)]
mod tests;
