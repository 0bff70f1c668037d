//! `RemoteFacts`: DNS names and geolocation of remote addresses.

use std::sync::Arc;

use super::dedup::Alert;
use super::enrich::{DnsAnswer, DnsCache, DnsNames, GeoIpDatabase, GeoLocation};
use crate::base::counters::Stats;
use crate::schema::ConnectionRow;

/// Fills the columns of rows and alerts that depend on the remote address alone.
#[derive(Debug)]
pub struct RemoteFacts {
    names: DnsCache,
    /// `None` if no geolocation database is configured.
    geoip: Option<Arc<GeoIpDatabase>>,
}

impl RemoteFacts {
    /// Combines a DNS cache with an optional geolocation database.
    pub const fn new(names: DnsCache, geoip: Option<Arc<GeoIpDatabase>>) -> Self {
        Self { names, geoip }
    }

    /// Facts with a DNS cache of the default size, without geolocation.
    pub(super) fn with_default_cache(stats: &Arc<Stats>) -> Self {
        Self::new(DnsCache::new(DnsCache::MAX, Arc::clone(stats)), None)
    }

    /// Number of cached names, and the maximum.
    pub(super) const fn names(&self) -> (usize, usize) {
        self.names.occupancy()
    }

    /// Adds a DNS answer to the cache.
    pub(super) fn add_answer(&mut self, answer: &DnsAnswer) {
        self.names.insert(answer);
    }

    /// Completes the row of a closed minute. The names are those at the start of the minute, and those
    /// of later answers.
    pub(super) fn complete_row(&mut self, row: &mut ConnectionRow) {
        let Ok(address) = row.remote_ip.parse() else { return };
        let DnsNames { questions, canonical_names } = self.names.get(address, row.time_generated);
        row.remote_dns_questions = questions;
        row.remote_dns_canonical_names = canonical_names;
        if let Some(geoip) = &self.geoip {
            let GeoLocation { country, latitude, longitude } = geoip.get(address);
            row.remote_country = country;
            row.remote_latitude = latitude;
            row.remote_longitude = longitude;
        }
    }

    /// Completes an alert with the names at the time of its latest connection.
    pub(super) fn complete_alert(&mut self, alert: &mut Alert) {
        let Ok(address) = alert.remote_ip.parse() else { return };
        alert.remote_dns_questions = self.names.get(address, alert.last_seen).questions;
    }
}
