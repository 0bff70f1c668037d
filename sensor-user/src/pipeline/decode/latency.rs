//! Response latency: values of the map, and the record ahead of a close. Semantics:
//! [`sensor_ebpf::latency`].

use sensor_ebpf::latency::{CONNECTION_LATENCY_LEN, ResponseDirection};

use super::DecodeError;
use super::reader::ByteReader;

/// Responses of one direction in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyCounts {
    /// Sum of the latencies, microseconds.
    pub sum_us: u64,
    /// Number of responses.
    pub count: u32,
    /// Shortest latency, microseconds.
    pub min_us: u32,
    /// Longest latency, microseconds.
    pub max_us: u32,
    /// Number of the epoch, from 1; 0 for none.
    pub epoch: u32,
}

/// Responses by direction, in the last two epochs that had any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyByDirection {
    sent: [LatencyCounts; 2],
    received: [LatencyCounts; 2],
}

impl LatencyByDirection {
    /// Counts of both directions.
    pub const fn new(sent: [LatencyCounts; 2], received: [LatencyCounts; 2]) -> Self {
        Self { sent, received }
    }

    /// Counts of one direction.
    pub const fn of(&self, direction: ResponseDirection) -> &[LatencyCounts; 2] {
        match direction {
            ResponseDirection::Sent => &self.sent,
            ResponseDirection::Received => &self.received,
        }
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let mut epochs = || Ok([counts(reader)?, counts(reader)?]);
        Ok(Self { sent: epochs()?, received: epochs()? })
    }
}

/// Value of the kernel's map for an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionLatency {
    /// Responses that the kernel has counted.
    pub counts: LatencyByDirection,
    /// Latest response, if the kernel has not counted it yet.
    pub pending: Option<PendingResponse>,
}

/// A response that may still continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingResponse {
    /// Direction of the response.
    pub direction: ResponseDirection,
    /// End of the request, ns since boot.
    pub request_end_ns: u64,
    /// End of the response so far, ns since boot.
    pub response_end_ns: u64,
}

/// Response latency of a connection that closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLatency {
    /// Socket cookie of the connection.
    pub cookie: u64,
    /// All responses that are not reported yet.
    pub counts: LatencyByDirection,
}

impl ConnectionLatency {
    /// Decodes a value of the map.
    pub fn from_bytes(bytes: &[u8; CONNECTION_LATENCY_LEN]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(bytes);
        let (response_end_ns, request_end_ns) = (reader.u64()?, reader.u64()?);
        let counts = LatencyByDirection::read(&mut reader)?;
        const SENT: u32 = ResponseDirection::Sent as u32 + 1;
        const RECEIVED: u32 = ResponseDirection::Received as u32 + 1;
        let direction = match reader.u32()? {
            SENT => Some(ResponseDirection::Sent),
            RECEIVED => Some(ResponseDirection::Received),
            _ => None,
        };
        let pending = direction.filter(|_| request_end_ns != 0).map(|direction| PendingResponse {
            direction,
            request_end_ns,
            response_end_ns,
        });
        Ok(Self { counts, pending })
    }
}

pub(super) fn tcp_latency(reader: &mut ByteReader<'_>) -> Result<TcpLatency, DecodeError> {
    Ok(TcpLatency { cookie: reader.u64()?, counts: LatencyByDirection::read(reader)? })
}

fn counts(reader: &mut ByteReader<'_>) -> Result<LatencyCounts, DecodeError> {
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
        // The second epoch of received responses.
        let start = 16 + 3 * 24;
        bytes[start..start + 8].copy_from_slice(&90_u64.to_ne_bytes());
        for (field, value) in [2_u32, 40, 50, 9].into_iter().enumerate() {
            let offset = start + 8 + 4 * field;
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[112..116].copy_from_slice(&2_u32.to_ne_bytes());
        let latency = ConnectionLatency::from_bytes(&bytes).unwrap();
        let second = LatencyCounts { sum_us: 90, count: 2, min_us: 40, max_us: 50, epoch: 9 };
        assert_eq!(
            latency.counts.of(ResponseDirection::Received),
            &[LatencyCounts::default(), second]
        );
        assert_eq!(latency.counts.of(ResponseDirection::Sent), &[LatencyCounts::default(); 2]);
        let pending = PendingResponse {
            direction: ResponseDirection::Received,
            request_end_ns: 5_000,
            response_end_ns: 7_000,
        };
        assert_eq!(latency.pending, Some(pending));
    }
}
