//! The host's addresses, gateways and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::files;

/// Maximum number of addresses, of gateways, and of names of a host.
const VALUES_MAX: usize = 1024;

/// Address of a network interface other than the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceAddress {
    /// An IP address, and the prefix length of its network.
    Ip(IpAddr, u8),
    /// A hardware address, as `00:0d:3a:…`.
    Mac(String),
}

/// Addresses in this thread's network namespace, in the kernel's order; empty if the kernel refuses the
/// request.
pub fn interface_addresses() -> Vec<InterfaceAddress> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let non_loopback = all.filter(|it| !it.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let addresses = non_loopback.filter_map(|it| {
        let address = it.address?;
        if let Some(link) = address.as_link_addr() {
            let octets = link.addr().filter(|octets| *octets != [0; 6])?;
            let text: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            return Some(InterfaceAddress::Mac(text.join(":")));
        }
        if let Some(v4) = address.as_sockaddr_in() {
            let mask = it.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
            let ones = mask.map_or(32, |mask| mask.ip().to_bits().count_ones());
            return Some(InterfaceAddress::Ip(v4.ip().into(), u8::try_from(ones).unwrap_or(32)));
        }
        let v6 = address.as_sockaddr_in6()?;
        let mask = it.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in6());
        let ones = mask.map_or(128, |mask| mask.ip().to_bits().count_ones());
        Some(InterfaceAddress::Ip(v6.ip().into(), u8::try_from(ones).unwrap_or(128)))
    });
    addresses.take(VALUES_MAX).collect()
}

/// The network columns of `VMComputer`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) v4: Vec<String>,
    pub(super) v4_masks: Vec<String>,
    pub(super) v4_gateways: Vec<String>,
    pub(super) v6: Vec<String>,
    pub(super) v6_gateways: Vec<String>,
    pub(super) macs: Vec<String>,
}

impl Network {
    pub(super) fn read(root: &Path, addresses: &[InterfaceAddress]) -> Self {
        let mut network = Self {
            v4_gateways: v4_gateways(&files::text(root, "proc/net/route")),
            v6_gateways: v6_gateways(&files::text(root, "proc/net/ipv6_route")),
            ..Self::default()
        };
        for address in addresses {
            match address {
                InterfaceAddress::Ip(IpAddr::V4(address), prefix) => {
                    network.v4.push(address.to_string());
                    network.v4_masks.push(mask(*prefix).to_string());
                }
                InterfaceAddress::Ip(IpAddr::V6(address), _) => {
                    network.v6.push(address.to_string());
                }
                // A VLAN interface has the hardware address of its parent interface.
                InterfaceAddress::Mac(mac) if !network.macs.contains(mac) => {
                    network.macs.push(mac.clone());
                }
                InterfaceAddress::Mac(_) => {}
            }
        }
        network
    }
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// `RTF_GATEWAY`, `include/uapi/linux/route.h`.
const RTF_GATEWAY: u32 = 2;

/// Default gateways in `/proc/net/route`: destination, gateway and mask are in hexadecimal, in the byte
/// order of memory.
fn v4_gateways(table: &str) -> Vec<String> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, flags, _, _, _, mask, ..] = fields.as_slice() else {
            return None;
        };
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let usable = hex(flags)? & RTF_GATEWAY != 0 && hex(destination)? == 0 && hex(mask)? == 0;
        usable.then_some(Ipv4Addr::from(hex(gateway)?.to_ne_bytes()).to_string())
    };
    distinct(table.lines().skip(1).filter_map(gateway))
}

/// Default gateways in `/proc/net/ipv6_route`: destination, prefix length, source, its length, next hop, metric,
/// two counters, flags, interface.
fn v6_gateways(table: &str) -> Vec<String> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, "00", _, _, hop, _, _, _, flags, ..] = fields.as_slice() else {
            return None;
        };
        let hex = |text: &str| u128::from_str_radix(text, 16).ok();
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let usable = flags & RTF_GATEWAY != 0 && hex(destination)? == 0;
        usable.then_some(Ipv6Addr::from_bits(hex(hop)?).to_string())
    };
    distinct(table.lines().filter_map(gateway))
}

/// The host's names: `computer`, and the names on those lines of `/etc/hosts` that contain it. (No
/// request is sent over the network.)
pub(super) fn names(root: &Path, computer: &str) -> Vec<String> {
    let hosts = files::text(root, "etc/hosts");
    let own = |name: &str| {
        let short = computer.split('.').next().unwrap_or(computer);
        name.eq_ignore_ascii_case(computer) || name.eq_ignore_ascii_case(short)
    };
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next()?.parse::<IpAddr>().ok()?;
        words.clone().any(own).then(|| words.map(files::clean))
    });
    let useful = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        name.chars().all(plain) && !name.is_empty() && !name.starts_with("localhost")
    };
    distinct(std::iter::once(computer.to_owned()).chain(named.flatten()).filter(useful))
}

fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts.take(VALUES_MAX) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_routes_through_a_gateway_count() {
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n\
            eth1 00000000 010200C0 0003 0 0 200 00000000 0 0 0\n\
            eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
            eth0 0000000A 050200C0 0003 0 0 0 000000FF 0 0 0\n\
            tun0 00000000 00000000 0001 0 0 0 00000000 0 0 0\n\
            eth0 00000000\nnonsense zz zz zz zz zz zz zz zz\n";
        assert_eq!(v4_gateways(v4), ["192.0.2.1"]);
        let zeros = "0".repeat(32);
        let hop = "20010db8000000000000000000000001";
        let v6 = format!(
            "{zeros} 00 {zeros} 00 {hop} 00000400 00000003 00000000 00000003 eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n\
             {hop} 40 {zeros} 00 {hop} 00000400 00000003 00000000 00000003 eth0\nx\n"
        );
        assert_eq!(v6_gateways(&v6), ["2001:db8::1"]);
        assert_eq!((v4_gateways("\0\0"), v6_gateways("")), (vec![], vec![]));
    }

    #[test]
    fn masks_are_in_the_order_of_their_addresses() {
        let ip = |text: &str, prefix| InterfaceAddress::Ip(text.parse().unwrap(), prefix);
        let mac = InterfaceAddress::Mac("02:fc:00:00:00:01".to_owned());
        let all = [ip("192.0.2.9", 24), mac.clone(), ip("2001:db8::9", 64), mac, ip("10.0.0.1", 0)];
        let network = Network::read(Path::new("/nonexistent"), &all);
        assert_eq!(network.v4, ["192.0.2.9", "10.0.0.1"]);
        assert_eq!(network.v4_masks, ["255.255.255.0", "0.0.0.0"]);
        assert_eq!((network.v6.len(), network.macs.len()), (1, 1));
    }
}
