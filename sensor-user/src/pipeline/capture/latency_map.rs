//! `LatencyMap`: the kernel's response latency counts, read one at a time by socket cookie.

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use sensor_ebpf::latency::CONNECTION_LATENCY_LEN;
use sensor_ebpf::maps::{LATENCY, LATENCY_EPOCH};

use super::error::CaptureError;
use super::maps::take_map;

/// The map of response latency, and the epoch in which responses are counted.
pub struct LatencyMap {
    latency: HashMap<MapData, u64, [u8; CONNECTION_LATENCY_LEN]>,
    kernel_epoch: Array<MapData, u32>,
    epoch: u32,
}

impl std::fmt::Debug for LatencyMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LatencyMap").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl LatencyMap {
    /// Takes the maps out of the loaded object, and starts the first epoch.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        let (latency, kernel_epoch) = (take_map(ebpf, LATENCY)?, take_map(ebpf, LATENCY_EPOCH)?);
        let mut map = Self { latency, kernel_epoch, epoch: 0 };
        map.begin_epoch();
        Ok(map)
    }

    /// Starts the next epoch. Returns the number of the epoch that ended; 0 if the map cannot be
    /// written.
    pub fn begin_epoch(&mut self) -> u32 {
        let next = self.epoch.saturating_add(1);
        match self.kernel_epoch.set(0, next, 0) {
            Ok(()) => std::mem::replace(&mut self.epoch, next),
            Err(error) => {
                tracing::debug!(%error, "cannot start a latency epoch");
                0
            }
        }
    }

    /// Latency of a connection, encoded; `None` if it had no responses.
    pub fn read(&self, cookie: u64) -> Option<[u8; CONNECTION_LATENCY_LEN]> {
        match self.latency.get(&cookie, 0) {
            Ok(latency) => Some(latency),
            Err(MapError::KeyNotFound) => None,
            Err(error) => {
                tracing::debug!(%error, "cannot read the latency of a connection");
                None
            }
        }
    }
}
