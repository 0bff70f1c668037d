//! The addresses of this host, which no feed may name without `allow_private`.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Addresses at most.
const MOST: usize = 1 << 16;

/// Those of all interfaces, canonical. Where the kernel refuses there are none, and the log says
/// so.
///
/// Loopback addresses are not among them: they are special, so that a feed names them only where
/// its `allow_private` says that it may, and then it is meant (`self-test` alerts on one).
pub(super) fn addresses() -> Vec<IpAddr> {
    let all = match getifaddrs() {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "list the addresses of this host; feeds may name them now");
            return Vec::new();
        }
    };
    let addresses = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let address = v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))?.to_canonical();
        (!address.is_loopback()).then_some(address)
    });
    let mut addresses: Vec<IpAddr> = addresses.take(MOST).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
