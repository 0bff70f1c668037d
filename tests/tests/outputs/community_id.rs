//! Community ID: every end, protocol and address family has the value of the reference implementation.

use std::net::IpAddr;
use std::process::Command;

use sensor_tests::{python_with, skip_unless};
use sensor_user::base::community_id::community_id;
use sensor_user::base::protocol::Protocol;

/// Prints the id of each line `protocol source port destination port`.
const ORACLE: &str = "
import communityid, sys
for line in sys.argv[1:]:
    protocol, source, sport, destination, dport = line.split()
    make = getattr(communityid.FlowTuple, 'make_' + protocol)
    print(communityid.CommunityID().calc(make(source, destination, int(sport), int(dport))))
";

#[test]
fn ids_are_those_of_the_reference_implementation() {
    let python = python_with("communityid");
    if skip_unless(python.is_some(), "no Python with the package communityid") {
        return;
    }
    let addresses = [
        ("192.0.2.1", "203.0.113.7"),
        ("203.0.113.7", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8::5", "2001:db8::7"),
        ("2001:db8::7", "fe80::1"),
    ];
    let ports = [(40_000_u16, 443_u16), (443, 40_000), (53, 53), (1, u16::MAX)];
    let (mut lines, mut own) = (Vec::new(), Vec::new());
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for (source, destination) in addresses {
            for (source_port, destination_port) in ports {
                lines.push(format!(
                    "{} {source} {source_port} {destination} {destination_port}",
                    protocol.as_str()
                ));
                own.push(community_id(
                    protocol,
                    source.parse().unwrap(),
                    Some(source_port),
                    destination.parse().unwrap(),
                    Some(destination_port),
                ));
            }
        }
    }
    let output = Command::new(python.unwrap()).args(["-c", ORACLE]).args(&lines).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(own, expected);
}

#[test]
fn a_mapped_address_has_the_id_of_its_ipv4_packets() {
    let id = |source: &str, destination: &str| {
        let [source, destination]: [IpAddr; 2] =
            [source, destination].map(|it| it.parse().unwrap());
        community_id(Protocol::Tcp, source, Some(40_000), destination, Some(443))
    };
    assert_eq!(id("::ffff:192.0.2.1", "::ffff:203.0.113.7"), id("192.0.2.1", "203.0.113.7"));
    let none =
        community_id(Protocol::Udp, [192, 0, 2, 1].into(), None, [192, 0, 2, 2].into(), Some(53));
    assert_eq!(none, "");
}
