//! `RemoteFacts`: what is known of a remote address itself: the names that led to it, and where it is.

use std::sync::Arc;

use super::dedup::Alert;
use super::enrich::{DnsAnswer, Names, Place, Places, RemoteNames};
use crate::base::counters::Stats;
use crate::schema::ConnectionRow;

/// Fills the columns of rows and alerts that say so.
#[derive(Debug)]
pub struct RemoteFacts {
    names: Names,
    /// `None` where the operator names no database.
    places: Option<Arc<Places>>,
}

impl RemoteFacts {
    /// Puts both together.
    pub const fn new(names: Names, places: Option<Arc<Places>>) -> Self {
        Self { names, places }
    }

    /// The usual number of names, no places.
    pub(super) fn usual(stats: &Arc<Stats>) -> Self {
        Self::new(Names::new(Names::MAX, Arc::clone(stats)), None)
    }

    /// Names that are known, and how many may be.
    pub(super) const fn names(&self) -> (usize, usize) {
        self.names.occupancy()
    }

    /// Takes an answer in.
    pub(super) fn learn(&mut self, answer: &DnsAnswer) {
        self.names.learn(answer);
    }

    /// Of a minute that is closed: the names are those of its beginning, and of answers since.
    pub(super) fn complete_row(&mut self, row: &mut ConnectionRow) {
        let Ok(address) = row.remote_ip.parse() else { return };
        let RemoteNames { questions, canonical_names } = self.names.of(address, row.time_generated);
        row.remote_dns_questions = questions;
        row.remote_dns_canonical_names = canonical_names;
        if let Some(places) = &self.places {
            let Place { country, latitude, longitude } = places.of(address);
            row.remote_country = country;
            row.remote_latitude = latitude;
            row.remote_longitude = longitude;
        }
    }

    /// The names at its latest connection.
    pub(super) fn complete_alert(&mut self, alert: &mut Alert) {
        let Ok(address) = alert.remote_ip.parse() else { return };
        alert.remote_dns_questions = self.names.of(address, alert.last_seen).questions;
    }
}
