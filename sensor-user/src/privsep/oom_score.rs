//! `OomScore`: child processes that the kernel kills first when memory is short.

use std::fs::File;
use std::io::{self, Write as _};

/// The process itself, whose children inherit the score (proc(5)).
const PATH: &str = "/proc/self/oom_score_adj";
/// Above all processes that have no score of their own.
const FIRST: &str = "1000";

/// Score of this process. Its file is opened before the sandbox forbids that; a process may return to its
/// own lower score without privileges.
#[derive(Debug)]
pub(super) struct OomScore(Option<(File, String)>);

impl OomScore {
    pub(super) fn open() -> Self {
        let own = std::fs::read_to_string(PATH);
        let file = File::options().write(true).open(PATH);
        // Without the file, as in some containers, children have the score of their parent.
        Self(own.ok().zip(file.ok()).map(|(own, file)| (file, own.trim_end().to_owned())))
    }

    /// Runs `start`, whose child process begins with the highest score.
    pub(super) fn raised<T>(&self, start: impl FnOnce() -> T) -> T {
        let Some((file, own)) = &self.0 else { return start() };
        if let Err(error) = write(file, FIRST) {
            tracing::warn!(%error, "oom_score_adj of a feed parser cannot be raised");
        }
        let started = start();
        if let Err(error) = write(file, own) {
            tracing::warn!(%error, "oom_score_adj of the launcher cannot be restored");
        }
        started
    }
}

fn write(mut file: &File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())
}
