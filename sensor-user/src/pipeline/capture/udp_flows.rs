//! `UdpFlows`: the kernel's counts of UDP flows, read one at a time by key.

use std::io::ErrorKind;

use aya::maps::{HashMap, Map, MapData, MapError};
use sensor_ebpf::record::{FLOW_COUNTS_LEN, FLOW_KEY_LEN};

/// The LRU map of flows. A lookup from user space takes less than a microsecond, and does not
/// change the order of eviction (`htab_lru_map_lookup_elem_sys` in `kernel/bpf/hashtab.c`): only
/// datagrams make a flow recent.
#[derive(Debug)]
pub struct UdpFlows(HashMap<MapData, [u8; FLOW_KEY_LEN], [u8; FLOW_COUNTS_LEN]>);

impl TryFrom<Map> for UdpFlows {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        HashMap::try_from(map).map(Self)
    }
}

impl UdpFlows {
    /// Counts of a flow, encoded; `None` if the flow is not in the map, or not any more.
    pub fn read(&self, key: &[u8; FLOW_KEY_LEN]) -> Option<[u8; FLOW_COUNTS_LEN]> {
        match self.0.get(key, 0) {
            Ok(counts) => Some(counts),
            Err(MapError::KeyNotFound) => None,
            Err(error) => {
                tracing::debug!(%error, "cannot read the counts of a UDP flow");
                None
            }
        }
    }

    /// Removes a flow from the map: its next datagram starts a new one.
    pub fn remove(&mut self, key: &[u8; FLOW_KEY_LEN]) {
        match self.0.remove(key) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "cannot remove a UDP flow from the map"),
            Ok(()) => {}
        }
    }
}
