//! `Tally`: counts of the connections behind one alert.

use jiff::Timestamp;

/// Number, time range and bytes of the connections that an alert counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Time of the first connection.
    pub first_seen: Timestamp,
    /// Time of the last connection.
    pub last_seen: Timestamp,
    /// Number of counted connections.
    pub connections: u64,
    /// Payload bytes sent by them, as far as known.
    pub bytes_sent: u64,
    /// Payload bytes received by them, as far as known.
    pub bytes_received: u64,
}

impl Tally {
    /// Adds the counts of another tally.
    pub fn join(&mut self, more: &Self) {
        self.first_seen = self.first_seen.min(more.first_seen);
        self.last_seen = self.last_seen.max(more.last_seen);
        self.connections = self.connections.saturating_add(more.connections);
        self.bytes_sent = self.bytes_sent.saturating_add(more.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(more.bytes_received);
    }
}
