//! The spool's thread: waits for something to do, and has the log do it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::{Queue, Queued};
use super::writer::Log;

/// Alerts and commits that are taken at once, about.
const TAKE_MAX: usize = 8192;
/// How often what is too old is looked for.
const LOOK: Duration = Duration::from_mins(1);

/// Starts it. It ends after the queue is closed.
pub(super) fn start(log: Log) -> io::Result<()> {
    std::thread::Builder::new().name("spool".to_owned()).spawn(move || run(log)).map(drop)
}

fn run(mut log: Log) {
    loop {
        let (commits, upto, is_last) = wait(&log);
        let flushes = {
            let queue = log.shared.queue();
            queue.wants_flush && queue.commits.is_empty()
        };
        turn(&mut log, commits, upto, is_last || flushes, Instant::now());
        if flushes {
            let is_done = log.is_done();
            let mut queue = log.shared.queue();
            (queue.wants_flush, queue.flushed) = (false, Some(is_done));
            log.shared.work.notify_all();
        }
        if is_last {
            break;
        }
    }
    log.count_lost();
    log.end_active();
    let (is_done, shared) = (log.is_done(), Arc::clone(&log.shared));
    // Its files are closed before anybody is told.
    drop(log);
    shared.queue().ended = Some(is_done);
    shared.work.notify_all();
}

/// One turn of the log, and what is written since.
pub(super) fn turn(log: &mut Log, commits: Vec<Queued>, upto: u64, is_last: bool, now: Instant) {
    log.turn(commits, now, is_last);
    let written = log.first_unwritten().map_or(upto, |number| number.saturating_sub(1));
    log.shared.written.fetch_max(written, Ordering::AcqRel);
}

/// Waits; gives what came, the number up to which that is all, and whether it is the last.
fn wait(log: &Log) -> (Vec<Queued>, u64, bool) {
    let shared = &log.shared;
    let deadline = log.due().unwrap_or_else(|| Instant::now() + LOOK);
    let mut queue = shared.queue();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_told = queue.is_nudged || queue.wants_flush || queue.is_closing;
        let is_idle = queue.commits.is_empty() && !is_told;
        if !is_idle || left.is_zero() {
            return take(&mut queue);
        }
        let waited = shared.work.wait_timeout(queue, left);
        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What there is, as [`wait`] gives it.
pub(super) fn take(queue: &mut Queue) -> (Vec<Queued>, u64, bool) {
    queue.is_nudged = false;
    let mut room = TAKE_MAX;
    let mut commits = Vec::new();
    while room > 0
        && let Some(queued) = queue.commits.pop_front()
    {
        room = room.saturating_sub(queued.commit.alerts.len().max(1));
        commits.push(queued);
    }
    let is_empty = queue.commits.is_empty();
    let upto = match commits.last() {
        Some(last) if !is_empty => last.number,
        _ => queue.last_number,
    };
    (commits, upto, queue.is_closing && is_empty)
}
