//! Files appear complete, keep their names, and are deleted in order; rows are delivered with them.

use std::fs;
use std::path::Path;

use super::*;
use crate::base::clock::FixedClock;
use crate::deliver::batch::{BatchItem, ItemKind};
use crate::deliver::item::Item;
use crate::schema::{ConnectionRow, TableRow};

fn config(folder: &Path) -> ParquetConfig {
    ParquetConfig {
        folder: folder.join("rows"),
        file_rows: 10,
        file_age: ParquetConfig::FILE_AGE,
        max_bytes: ParquetConfig::MAX_BYTES,
        max_age: ParquetConfig::MAX_AGE,
    }
}

fn batch(rows: u64) -> Batch {
    let row = |number| {
        let row = ConnectionRow { links_live: number, ..ConnectionRow::default() };
        let item = Item::Row(Arc::new(TableRow::Connection(Box::new(row))));
        let line = item.json();
        BatchItem::new(item, 0, line)
    };
    Batch::new(ItemKind::Rows, (0..rows).map(row).collect())
}

fn clock(time: &str) -> Arc<dyn Clock> {
    Arc::new(FixedClock(time.parse().unwrap()))
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn rows_are_delivered_when_a_file_is_written_at_its_limit_of_rows_or_age() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    let sink = ParquetSink::new(&config, &stats, &clock("2026-11-24T10:00:03.25Z"));
    sink.send(&batch(9)).await.unwrap();
    assert_eq!(
        (sink.take_flushed().await.unwrap(), names(&config.folder)),
        (FlushedRows::default(), vec![])
    );
    assert!(sink.flush_at().await.unwrap() > Instant::now() + Duration::from_mins(9));
    sink.send(&batch(3)).await.unwrap();
    assert!(sink.flush_at().await.unwrap() <= Instant::now(), "complete: flush now");
    sink.flush(false).await.unwrap();
    assert_eq!(sink.take_flushed().await.unwrap(), FlushedRows { delivered: 12, rejected: 0 });
    assert_eq!(names(&config.folder), ["VMConnection-20261124T100003.250Z.parquet"]);
    // The sink ends before the file has its age; another file has the name already.
    sink.send(&batch(2)).await.unwrap();
    sink.flush(false).await.unwrap();
    assert_eq!(sink.take_flushed().await.unwrap(), FlushedRows::default());
    sink.flush(true).await.unwrap();
    assert_eq!(sink.take_flushed().await.unwrap().delivered, 2);
    assert_eq!(names(&config.folder).last().unwrap(), "VMConnection-20261124T100003.251Z.parquet");
    assert_eq!(sink.flush_at().await, None);
    assert_eq!(stats.parquet_files_written.value(), 2);
}

#[tokio::test]
async fn rows_that_cannot_be_written_are_kept_and_no_more_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    // A file has the name of the directory.
    fs::write(&config.folder, "").unwrap();
    let sink = ParquetSink::new(&config, &stats, &clock("2026-11-24T10:00:00Z"));
    sink.send(&batch(10)).await.unwrap();
    for _again in 0..3 {
        let error = sink.send(&batch(10)).await.unwrap_err();
        assert!(matches!(error, DeliverError::Io { .. }), "{error}");
    }
    assert!(sink.flush_at().await.unwrap() > Instant::now(), "no immediate retry");
    assert_eq!(sink.take_flushed().await.unwrap(), FlushedRows::default());
    fs::remove_file(&config.folder).unwrap();
    sink.send(&batch(10)).await.unwrap();
    sink.flush(false).await.unwrap();
    assert_eq!(sink.take_flushed().await.unwrap(), FlushedRows { delivered: 20, rejected: 0 });
    assert_eq!(names(&config.folder).len(), 2);
}

#[tokio::test]
async fn the_oldest_files_are_deleted_and_no_files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let stats = Arc::<Stats>::default();
    let config = ParquetConfig { file_rows: 1, ..config(folder.path()) };
    let mut sink = ParquetSink::new(&config, &stats, &clock("2026-11-10T00:00:00Z"));
    for day in 10..15 {
        sink.clock = clock(&format!("2026-11-{day}T00:00:00Z"));
        sink.send(&batch(1)).await.unwrap();
        sink.flush(false).await.unwrap();
    }
    let size = fs::metadata(config.folder.join(&names(&config.folder)[0])).unwrap().len();
    for other in ["VMConnection-20200101.parquet", "Other-20200101T000000.000Z.parquet", "x.tmp"] {
        fs::write(config.folder.join(other), "foreign").unwrap();
    }
    // Room for three, the new one included.
    let config = ParquetConfig { max_bytes: 3 * size + size / 2, ..config };
    let mut sink = ParquetSink::new(&config, &stats, &clock("2026-11-15T00:00:00Z"));
    sink.send(&batch(1)).await.unwrap();
    sink.flush(false).await.unwrap();
    assert_eq!(stats.parquet_files_deleted.value(), 3);
    let own = |names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|it| it.ends_with("000Z.parquet") && it.starts_with("VM"))
            .collect()
    };
    assert_eq!(
        own(names(&config.folder)),
        [13, 14, 15].map(|day| format!("VMConnection-202611{day}T000000.000Z.parquet"))
    );
    // By age: only the file that is written now is left.
    sink.clock = clock("2027-02-01T00:00:00Z");
    sink.send(&batch(1)).await.unwrap();
    sink.flush(false).await.unwrap();
    assert_eq!(own(names(&config.folder)), ["VMConnection-20270201T000000.000Z.parquet"]);
    assert_eq!(names(&config.folder).len(), 4, "files of others are there");
}

#[test]
fn incomplete_files_of_a_killed_agent_are_removed_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    fs::create_dir(&config.folder).unwrap();
    let whole = "VMConnection-20261124T100003.250Z.parquet";
    let torn = format!(".{whole}.tmp");
    for name in [whole, &torn, ".other.parquet.tmp", "notes.tmp"] {
        fs::write(config.folder.join(name), "PAR1").unwrap();
    }
    let _sink = ParquetSink::new(&config, &stats, &clock("2026-11-24T10:00:00Z"));
    assert_eq!(names(&config.folder), [".other.parquet.tmp", whole, "notes.tmp"]);
    assert_eq!(stats.parquet_files_torn.value(), 1);
}
