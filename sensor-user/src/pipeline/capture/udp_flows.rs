//! `UdpFlows`: the kernel's counts of UDP flows, read one by one by key.

use std::io::ErrorKind;

use aya::maps::{HashMap, Map, MapData, MapError};
use sensor_ebpf::record::{FLOW_COUNTS_LEN, FLOW_KEY_LEN};

/// The map of flows. A look-up takes less than a microsecond, and leaves the order in which flows
/// are evicted as it is: only datagrams make a flow recent.
#[derive(Debug)]
pub struct UdpFlows(HashMap<MapData, [u8; FLOW_KEY_LEN], [u8; FLOW_COUNTS_LEN]>);

impl TryFrom<Map> for UdpFlows {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        HashMap::try_from(map).map(Self)
    }
}

impl UdpFlows {
    /// The bytes of a flow's counts; `None` for a flow that is not in the map (any more).
    pub fn read(&self, key: &[u8; FLOW_KEY_LEN]) -> Option<[u8; FLOW_COUNTS_LEN]> {
        match self.0.get(key, 0) {
            Ok(counts) => Some(counts),
            Err(MapError::KeyNotFound) => None,
            Err(error) => {
                tracing::debug!(%error, "UDP flow not read");
                None
            }
        }
    }

    /// Removes a flow from the map: its next datagram begins a new one.
    pub fn remove(&mut self, key: &[u8; FLOW_KEY_LEN]) {
        match self.0.remove(key) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "UDP flow not removed"),
            Ok(()) => {}
        }
    }
}
