//! Takes the maps of the contract out of the loaded object.

use aya::Ebpf;
use aya::maps::{Map, MapError};

use super::error::{CaptureError, bad_map};

/// Takes the map `name`, with its type checked.
pub(super) fn take_map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, CaptureError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| bad_map(name, None))?;
    M::try_from(map).map_err(|error| bad_map(name, Some(error)))
}
