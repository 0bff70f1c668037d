//! Community ID: the flow hash that Zeek, Suricata and Elastic give the same connection.

use std::net::IpAddr;

use ::community_id::calculate_community_id;

use super::protocol::Protocol;

/// Returns the [Community ID], version 1 with seed 0, of a connection; "" if a port is unknown. The
/// order of the ends does not matter. An IPv4-mapped address counts as IPv4, as in its packets.
///
/// ```
/// use sensor_user::base::community_id::community_id;
/// use sensor_user::base::protocol::Protocol;
///
/// let (local, remote) = ([192, 0, 2, 1].into(), [203, 0, 113, 7].into());
/// let id = community_id(Protocol::Tcp, local, Some(40_000), remote, Some(443));
/// assert_eq!(id, community_id(Protocol::Tcp, remote, Some(443), local, Some(40_000)));
/// assert_eq!(id, "1:NyzT+sqkYpjHLiDQIMfichA/tyw=");
/// ```
///
/// [Community ID]: https://github.com/corelight/community-id-spec
pub fn community_id(
    protocol: Protocol,
    source: IpAddr,
    source_port: Option<u16>,
    destination: IpAddr,
    destination_port: Option<u16>,
) -> String {
    let (source, destination) = (source.to_canonical(), destination.to_canonical());
    let number = protocol.number();
    // The errors: an unknown port, and ends of two address families, which only a replayed row can have.
    calculate_community_id(0, source, destination, source_port, destination_port, number, false)
        .unwrap_or_default()
}
