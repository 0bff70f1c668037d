//! Thread of the spool: waits for work and runs the writer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shared::TakenCommits;
use super::writer::SpoolWriter;

/// Interval of the check for segments that are too old.
const RETENTION_INTERVAL: Duration = Duration::from_mins(1);

/// Starts the thread. It ends after the queue is closed.
pub(super) fn start(writer: SpoolWriter) -> io::Result<()> {
    std::thread::Builder::new().name("spool".to_owned()).spawn(move || run(writer)).map(drop)
}

fn run(mut writer: SpoolWriter) {
    loop {
        let taken = wait(&writer);
        let (is_flush, is_last) = (taken.is_flush, taken.is_last);
        writer.run_once(taken, Instant::now());
        if is_flush {
            let flushed = Some(writer.is_synced());
            writer.shared.notify(|it| (it.wants_flush, it.flushed) = (false, flushed));
        }
        if is_last {
            break;
        }
    }
    writer.count_lost();
    writer.end_active();
    let (ended, shared) = (Some(writer.is_synced()), Arc::clone(&writer.shared));
    // The files are closed before a caller continues.
    drop(writer);
    shared.notify(|queue| queue.ended = ended);
}

fn wait(writer: &SpoolWriter) -> TakenCommits {
    let deadline = writer.deadline().unwrap_or_else(|| Instant::now() + RETENTION_INTERVAL);
    let taken = writer.shared.wait_until(deadline, |queue| queue.has_work().then(|| queue.take()));
    taken.unwrap_or_else(|| writer.shared.queue().take())
}
