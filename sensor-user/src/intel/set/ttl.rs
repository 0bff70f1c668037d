//! `Ttl`: validity of indicators without an expiry.

use jiff::{SignedDuration, Timestamp};

use super::store::{StoredFact, instant};

/// Validity of indicators without an expiry.
#[derive(Debug, Clone, Copy)]
pub struct Ttl {
    /// Counted from the last pull that had the indicator.
    pub ttl: SignedDuration,
    /// Time of the last "not modified", which confirms the whole set of a snapshot feed.
    pub confirmed: Option<Timestamp>,
}

impl Ttl {
    /// True if the record is not valid any more at `now`.
    pub fn is_over(self, fact: StoredFact, now: Timestamp) -> bool {
        self.end((fact.expires > 0).then(|| instant(fact.expires)), instant(fact.pulled)) <= now
    }

    /// Returns when an indicator with this expiry, last seen in the pull at `pulled`, stops being
    /// valid.
    pub fn end(self, expires: Option<Timestamp>, pulled: Timestamp) -> Timestamp {
        expires.unwrap_or_else(|| {
            self.confirmed_at(pulled).checked_add(self.ttl).unwrap_or(Timestamp::MAX)
        })
    }

    /// Time of the last confirmation of an indicator that was last seen in the pull at `pulled`.
    pub fn confirmed_at(self, pulled: Timestamp) -> Timestamp {
        self.confirmed.map_or(pulled, |confirmed| confirmed.max(pulled))
    }
}
