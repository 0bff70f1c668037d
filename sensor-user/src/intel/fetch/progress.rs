//! `PullProgress`: the page that a running pull has reached, for the status.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;

/// Progress of a running pull.
#[derive(Debug)]
pub struct PullProgress {
    began: Timestamp,
    page: AtomicU32,
}

impl PullProgress {
    /// Progress of a pull that begins at `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self { began: now, page: AtomicU32::new(1) }
    }

    /// Start of the pull.
    pub const fn began(&self) -> Timestamp {
        self.began
    }

    /// Number of the current page (of a MISP feed: of the event), from 1.
    pub fn page(&self) -> u32 {
        self.page.load(Ordering::Relaxed)
    }

    pub(super) fn set_page(&self, page: u32) {
        self.page.store(page, Ordering::Relaxed);
    }
}
