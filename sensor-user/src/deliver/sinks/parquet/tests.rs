//! Files appear whole, keep their names, and leave in order; rows settle with their file.

use std::fs;
use std::path::Path;

use super::*;
use crate::base::clock::FixedClock;
use crate::deliver::batch::{Content, Entry};
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
        Entry::new(item, 0, line)
    };
    Batch::new(Content::Rows, (0..rows).map(row).collect())
}

fn clock(time: &str) -> FixedClock {
    FixedClock(time.parse().unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_written_when_it_has_its_rows_or_its_age_and_only_then_they_are_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    let mut sink = ParquetSink::new(config.clone(), &stats);
    let clock = clock("2026-11-24T10:00:03.25Z");
    sink.send(&batch(9), &clock).await.unwrap();
    assert_eq!((sink.take_settled(), names(&config.folder)), (Settled::default(), vec![]));
    assert!(sink.due().unwrap() > Instant::now() + Duration::from_mins(9));
    sink.send(&batch(3), &clock).await.unwrap();
    assert!(sink.due().unwrap() <= Instant::now(), "full: it is due");
    sink.write_due(&clock, false).await.unwrap();
    assert_eq!(sink.take_settled(), Settled { delivered: 12, rejected: 0 });
    assert_eq!(names(&config.folder), ["VMConnection-20261124T100003.250Z.parquet"]);
    // The end comes before a file has its age; another file has the name already.
    sink.send(&batch(2), &clock).await.unwrap();
    sink.write_due(&clock, false).await.unwrap();
    assert_eq!(sink.take_settled(), Settled::default());
    sink.write_due(&clock, true).await.unwrap();
    assert_eq!(sink.take_settled().delivered, 2);
    assert_eq!(names(&config.folder).last().unwrap(), "VMConnection-20261124T100003.251Z.parquet");
    assert_eq!(sink.due(), None);
    assert_eq!(stats.parquet_files_written.value(), 2);
}

#[tokio::test]
async fn what_cannot_be_written_is_kept_and_nothing_more_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    // Something that is no folder stands in its place.
    fs::write(&config.folder, "").unwrap();
    let mut sink = ParquetSink::new(config.clone(), &stats);
    let clock = clock("2026-11-24T10:00:00Z");
    sink.send(&batch(10), &clock).await.unwrap();
    for _again in 0..3 {
        let error = sink.send(&batch(10), &clock).await.unwrap_err();
        assert!(matches!(error, DeliverError::Write { .. }), "{error}");
    }
    assert!(sink.due().unwrap() > Instant::now(), "not at once again");
    assert_eq!(sink.take_settled(), Settled::default());
    fs::remove_file(&config.folder).unwrap();
    sink.send(&batch(10), &clock).await.unwrap();
    sink.write_due(&clock, false).await.unwrap();
    assert_eq!(sink.take_settled(), Settled { delivered: 20, rejected: 0 });
    assert_eq!(names(&config.folder).len(), 2);
}

#[tokio::test]
async fn the_oldest_files_are_deleted_and_none_of_anybody_else() {
    let folder = tempfile::tempdir().unwrap();
    let stats = Arc::<Stats>::default();
    let config = ParquetConfig { file_rows: 1, ..config(folder.path()) };
    let mut sink = ParquetSink::new(config.clone(), &stats);
    for day in 10..15 {
        let clock = clock(&format!("2026-11-{day}T00:00:00Z"));
        sink.send(&batch(1), &clock).await.unwrap();
        sink.write_due(&clock, false).await.unwrap();
    }
    let size = fs::metadata(config.folder.join(&names(&config.folder)[0])).unwrap().len();
    for other in ["VMConnection-20200101.parquet", "Other-20200101T000000.000Z.parquet", "x.tmp"] {
        fs::write(config.folder.join(other), "not ours").unwrap();
    }
    // Room for three, the new one included.
    let config = ParquetConfig { max_bytes: 3 * size + size / 2, ..config };
    let mut sink = ParquetSink::new(config.clone(), &stats);
    let later = clock("2026-11-15T00:00:00Z");
    sink.send(&batch(1), &later).await.unwrap();
    sink.write_due(&later, false).await.unwrap();
    assert_eq!(stats.parquet_files_deleted.value(), 3);
    let ours = |names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|it| it.ends_with("000Z.parquet") && it.starts_with("VM"))
            .collect()
    };
    assert_eq!(
        ours(names(&config.folder)),
        [13, 14, 15].map(|day| format!("VMConnection-202611{day}T000000.000Z.parquet"))
    );
    // By age: only what is written now is left.
    let much_later = clock("2027-02-01T00:00:00Z");
    sink.send(&batch(1), &much_later).await.unwrap();
    sink.write_due(&much_later, false).await.unwrap();
    assert_eq!(ours(names(&config.folder)), ["VMConnection-20270201T000000.000Z.parquet"]);
    assert_eq!(names(&config.folder).len(), 4, "those of others are there");
}

#[test]
fn what_a_killed_agent_left_half_written_is_removed_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let (config, stats) = (config(folder.path()), Arc::<Stats>::default());
    fs::create_dir(&config.folder).unwrap();
    let whole = "VMConnection-20261124T100003.250Z.parquet";
    let torn = format!(".{whole}.tmp");
    for name in [whole, &torn, ".other.parquet.tmp", "notes.tmp"] {
        fs::write(config.folder.join(name), "PAR1").unwrap();
    }
    let _sink = ParquetSink::new(config.clone(), &stats);
    assert_eq!(names(&config.folder), [".other.parquet.tmp", whole, "notes.tmp"]);
    assert_eq!(stats.parquet_files_torn.value(), 1);
}
