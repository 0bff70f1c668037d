//! Turns: the map's values and the record at the end. What they mean: [`sensor_ebpf::latency`].

use sensor_ebpf::latency::{CONNECTION_LATENCY_LEN, ResponseDirection};

use super::DecodeError;
use super::reader::Reader;

/// Answers of one direction in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyCounts {
    /// Sum of their times, µs.
    pub sum_us: u64,
    /// Answers.
    pub count: u32,
    /// The shortest, µs.
    pub min_us: u32,
    /// The longest, µs.
    pub max_us: u32,
    /// Number of the epoch, from 1; 0 for none.
    pub epoch: u32,
}

/// Answers by the way they went, in the last two epochs that had any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyByDirection {
    sent: [LatencyCounts; 2],
    received: [LatencyCounts; 2],
}

impl LatencyByDirection {
    /// Those of both ways.
    pub const fn new(sent: [LatencyCounts; 2], received: [LatencyCounts; 2]) -> Self {
        Self { sent, received }
    }

    /// Those that went `way`.
    pub const fn of(&self, way: ResponseDirection) -> &[LatencyCounts; 2] {
        match way {
            ResponseDirection::Sent => &self.sent,
            ResponseDirection::Received => &self.received,
        }
    }
}

/// What the kernel keeps of a connection that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionLatency {
    /// What is counted.
    pub counts: LatencyByDirection,
    /// An answer under way, not counted: which way, from when to when so far, ns since boot.
    pub under_way: Option<(ResponseDirection, u64, u64)>,
}

/// The turns of a connection that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLatency {
    /// Socket cookie.
    pub cookie: u64,
    /// What is counted, all of it.
    pub counts: LatencyByDirection,
}

/// Decodes the map's value.
pub fn connection_latency(
    bytes: &[u8; CONNECTION_LATENCY_LEN],
) -> Result<ConnectionLatency, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (end, asked, counts) = (reader.u64()?, reader.u64()?, by_way(&mut reader)?);
    const SENT: u32 = ResponseDirection::Sent as u32 + 1;
    const RECEIVED: u32 = ResponseDirection::Received as u32 + 1;
    let way = match reader.u32()? {
        SENT => Some(ResponseDirection::Sent),
        RECEIVED => Some(ResponseDirection::Received),
        _ => None,
    };
    let under_way = way.filter(|_| asked != 0).map(|way| (way, asked, end));
    Ok(ConnectionLatency { counts, under_way })
}

pub(super) fn record(reader: &mut Reader<'_>) -> Result<TcpLatency, DecodeError> {
    Ok(TcpLatency { cookie: reader.u64()?, counts: by_way(reader)? })
}

fn by_way(reader: &mut Reader<'_>) -> Result<LatencyByDirection, DecodeError> {
    let mut epochs = || Ok([counts(reader)?, counts(reader)?]);
    Ok(LatencyByDirection { sent: epochs()?, received: epochs()? })
}

fn counts(reader: &mut Reader<'_>) -> Result<LatencyCounts, DecodeError> {
    Ok(LatencyCounts {
        sum_us: reader.u64()?,
        count: reader.u32()?,
        min_us: reader.u32()?,
        max_us: reader.u32()?,
        epoch: reader.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_in_its_order() {
        let mut bytes = [0; CONNECTION_LATENCY_LEN];
        bytes[..8].copy_from_slice(&7_000_u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&5_000_u64.to_ne_bytes());
        // The second epoch of what was received.
        let place = 16 + 3 * 24;
        bytes[place..place + 8].copy_from_slice(&90_u64.to_ne_bytes());
        for (field, value) in [2_u32, 40, 50, 9].into_iter().enumerate() {
            let at = place + 8 + 4 * field;
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[112..116].copy_from_slice(&2_u32.to_ne_bytes());
        let turns = connection_latency(&bytes).unwrap();
        let second = LatencyCounts { sum_us: 90, count: 2, min_us: 40, max_us: 50, epoch: 9 };
        assert_eq!(
            turns.counts.of(ResponseDirection::Received),
            &[LatencyCounts::default(), second]
        );
        assert_eq!(turns.counts.of(ResponseDirection::Sent), &[LatencyCounts::default(); 2]);
        assert_eq!(turns.under_way, Some((ResponseDirection::Received, 5_000, 7_000)));
    }
}
