//! Addresses of this host: entries that cover one are rejected without `allow_private`.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Maximum number of addresses.
const ADDRESSES_MAX: usize = 1 << 16;

/// Canonical addresses of all interfaces; empty if the kernel refuses the request, which is logged.
///
/// Loopback addresses are excluded. They are special-purpose addresses, so a feed may contain them only
/// with `allow_private`, and then on purpose (`self-test` alerts on one).
pub(super) fn addresses() -> Vec<IpAddr> {
    let all = match getifaddrs() {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "addresses of this host not listed; feeds may contain them now");
            return Vec::new();
        }
    };
    let addresses = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let address = v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))?.to_canonical();
        (!address.is_loopback()).then_some(address)
    });
    let mut addresses: Vec<IpAddr> = addresses.take(ADDRESSES_MAX).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
