//! Fuzzes a spool segment that an earlier run left behind, valid or not.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sensor_user::base::clock::SystemClock;
use sensor_user::base::counters::Stats;
use sensor_user::base::progress::Progress;
use sensor_user::deliver::spool::{BatchLimit, Commit, InspectionReport, Spool, SpoolConfig};
use sensor_user::pipeline::dedup::Alert;
use tokio::runtime::Builder;

use super::framing::fix_frames;
use super::state_files::folder;

/// Size of a segment's header in bytes.
const HEADER: usize = 32;
/// Header bytes that the header's checksum covers.
const COVERED: usize = 28;
/// Id of the alert that is appended to the alerts found.
const NEW: &str = "after-the-fuzzer";

/// Inspects the directory, opens the spool, reads all of it, appends an alert, and opens it again.
pub fn spool(data: &[u8]) {
    let mut bytes = data.to_vec();
    let _stopped_early = fix_checksums(&mut bytes);
    let Some(folder) = folder() else { return };
    let path = folder.path().join(format!("{:020}-{:010}.log", 1, 1));
    if fs::write(&path, &bytes).is_err() {
        return;
    }
    let report = InspectionReport::read(folder.path(), &Progress::hidden());
    assert!(report.is_ok(), "{report:?}");
    let open = || {
        let (clock, stats) = (Arc::new(SystemClock), Arc::<Stats>::default());
        let opened =
            Spool::open(folder.path(), &SpoolConfig::USUAL, &["a".to_owned()], clock, &stats);
        assert!(opened.is_ok(), "{opened:?}");
        opened.ok()
    };
    let Some((spool, _)) = open() else { return };
    let mut alerts = read(&spool);
    // One more alert, a copy of the first.
    if let Some(first) = alerts.first() {
        let new = Arc::new(Alert { alert_id: NEW.to_owned(), ..Alert::clone(first) });
        spool.put(Commit { alerts: vec![Arc::clone(&new)], state: None });
        alerts.push(new);
    }
    assert!(spool.close(Duration::from_secs(20)), "all commits are written");
    drop(spool);
    let Some((spool, _)) = open() else { return };
    assert_eq!(read(&spool), alerts, "readable alerts stay readable");
    assert!(spool.close(Duration::from_secs(20)));
}

/// Reads all readable alerts without acknowledging them.
fn read(spool: &Spool) -> Vec<Arc<Alert>> {
    let mut alerts = Vec::new();
    let Some(mut reader) = spool.reader("a") else { return alerts };
    let Ok(runtime) = Builder::new_current_thread().enable_time().build() else { return alerts };
    runtime.block_on(async {
        while reader.has_more() {
            let next = reader.next_batch(BatchLimit { alerts: 100, bytes: 1 << 20 });
            // An unreadable alert is still counted; the reader skips it and never returns.
            let Ok(stored) = tokio::time::timeout(Duration::from_millis(200), next).await else {
                break;
            };
            alerts.extend(stored.into_iter().map(|it| it.alert));
        }
    });
    alerts
}

/// Corrects the magic number, the version and the checksums.
fn fix_checksums(bytes: &mut [u8]) -> Option<()> {
    let (header, frames) = bytes.split_at_mut_checked(HEADER)?;
    let (covered, crc) = header.split_at_mut_checked(COVERED)?;
    covered.get_mut(..12)?.copy_from_slice(b"netspool\x01\0\0\0");
    crc.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
    fix_frames(frames)
}
