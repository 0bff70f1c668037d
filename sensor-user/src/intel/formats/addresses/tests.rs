//! Spellings of ranges, masks and several addresses; text after them.

use super::*;

/// Parts of a line: prefixes of an address joined by `+`, `!` before what is rejected, `?` before
/// an address in a text.
fn parts(line: &str) -> Vec<String> {
    AddressScanner::new(line)
        .filter_map(|part| match part {
            LinePart::Address(it) => {
                let each = it.endpoints().map(|it| match it.port {
                    Some(port) => format!("{}:{port}", it.prefix),
                    None if it.prefix.addr().is_ipv4() => {
                        it.prefix.to_string().trim_end_matches("/32").to_owned()
                    }
                    None => it.prefix.to_string(),
                });
                Some(each.collect::<Vec<_>>().join("+"))
            }
            LinePart::Invalid(_, text) => Some(format!("!{text}")),
            LinePart::InText(text) => Some(format!("?{text}")),
            LinePart::Text => None,
        })
        .collect()
}

#[test]
fn a_range_is_its_smallest_set_of_networks_in_every_spelling() {
    for line in [
        "192.0.2.0-192.0.2.255",
        "192.0.2.0 - 192.0.2.255 , 000 , a name",
        "192.0.2.0 -192.0.2.255",
        "192.0.2.0- 192.0.2.255 # comment",
        "192.0.2.0 \u{2013} 192.0.2.255",
        "192.0.2.0 to 192.0.2.255",
        "192.0.2.0 .. 192.0.2.255",
        "192.0.2.0\t192.0.2.255\t24\t1500",
        "192.0.2.0,192.0.2.255",
        "192.0.2.0 255.255.255.0",
        "192.0.2.0 0.0.0.255",
        "192.0.2.0, 255.255.255.0",
        "192.0.2.0 mask 255.255.255.0",
        "192.0.2.0 netmask 255.255.255.0 x",
        "192.0.2.0 /24",
        "192.0.2.0 / 24 x",
        "192.0.2.0 /255.255.255.0",
        "192.0.2.0/24 255.255.255.0",
        "::ffff:192.0.2.0 - ::ffff:192.0.2.255",
    ] {
        assert_eq!(parts(line), ["192.0.2.0/24"], "{line}");
    }
    for (line, networks) in [
        ("192.0.2.1-192.0.2.6", "192.0.2.1+192.0.2.2/31+192.0.2.4/31+192.0.2.6"),
        ("198.51.100.0 198.51.101.255", "198.51.100.0/23"),
        ("198.51.101.0 198.51.102.255", "198.51.101.0/24+198.51.102.0/24"),
        ("2001:db8::-2001:db8::ffff", "2001:db8::/112"),
        ("2001:db8:: - 2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8::/63"),
        ("2001:db8:: /32", "2001:db8::/32"),
        ("192.0.2.7-192.0.2.7", "192.0.2.7"),
    ] {
        assert_eq!(parts(line), [networks], "{line}");
    }
    for (first, last, count) in [
        ("0.0.0.1", "255.255.255.254", 62),
        ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 254),
        ("0.0.0.0", "255.255.255.255", 1),
    ] {
        let range = ListedAddress::range(first.parse().unwrap(), last.parse().unwrap(), "");
        assert_eq!(range.unwrap().endpoints().count(), count);
    }
}

#[test]
fn what_may_be_a_range_is_never_its_first_address() {
    for (line, text) in [
        ("192.0.2.9-192.0.2.1", "!192.0.2.9-192.0.2.1"),
        ("192.0.2.1 - 2001:db8::1", "!192.0.2.1 - 2001:db8::1"),
        ("192.0.2.1 - 254", "!192.0.2.1 - 254"),
        ("192.0.2.1-254", "!192.0.2.1-254"),
        ("192.0.2.1 - 192.0.2", "!192.0.2.1 - 192.0.2"),
        ("192.0.2.10 192.0.2.20 x", "!192.0.2.10 192.0.2.20"),
        ("192.0.2.0/24 - 192.0.3.0", "!192.0.2.0/24 - 192.0.3.0"),
        ("192.0.2.0 255.0.255.0", "!192.0.2.0 255.0.255.0"),
        ("192.0.2.0 /33", "!192.0.2.0 /33"),
        ("192.0.2.0 mask 7.7.7.7", "!192.0.2.0 mask 7.7.7.7"),
    ] {
        assert_eq!(parts(line).first().map(String::as_str), Some(text), "{line}");
    }
}

#[test]
fn text_after_an_address_stays_text() {
    for line in [
        "192.0.2.7",
        "  192.0.2.7 # comment 203.0.113.9",
        "192.0.2.7;SBL1",
        "192.0.2.7 ; SBL1 see 203.0.113.9",
        "192.0.2.7 // 203.0.113.9",
        "192.0.2.7 12",
        "192.0.2.7\t2026-11-24 10:00:00\tscanner, US",
        "192.0.2.7 - a C2 server",
        "192.0.2.7 - example.com",
        "192.0.2.7 /wp-login.php",
        "192.0.2.7 mask of zorro",
        "192.0.2.7,443,a::b",
        "192.0.2.7 from nowhere",
        "192.0.2.7 total 9",
    ] {
        assert_eq!(parts(line), ["192.0.2.7"], "{line}");
    }
    assert_eq!(parts("192.0.2.7:443 x"), ["192.0.2.7/32:443"]);
}

#[test]
fn each_address_of_a_line_is_used_or_reported() {
    for (line, expected) in [
        ("192.0.2.7 203.0.113.9", &["192.0.2.7", "203.0.113.9"][..]),
        ("192.0.2.7,203.0.113.9 ; 198.51.100.1", &["192.0.2.7", "203.0.113.9", "198.51.100.1"]),
        ("192.0.2.1 192.0.2.5 192.0.2.9", &["192.0.2.1", "192.0.2.5", "192.0.2.9"]),
        ("192.0.2.7 192.0.2.8", &["192.0.2.7", "192.0.2.8"]),
        ("192.0.2.7 2001:db8::7", &["192.0.2.7", "2001:db8::7/128"]),
        ("192.0.2.7 192.0.2.7", &["192.0.2.7", "192.0.2.7"]),
        ("192.0.2.7:80 192.0.2.9:81", &["192.0.2.7/32:80", "192.0.2.9/32:81"]),
        ("192.0.2.7 and (203.0.113.9).", &["192.0.2.7", "?203.0.113.9"]),
        ("bad.example 203.0.113.9", &["!bad.example", "?203.0.113.9"]),
        ("", &[]),
        (" ,; # 192.0.2.7", &[]),
        ("0.0.0.0 203.0.113.255", &["0.0.0.0", "203.0.113.255"]),
    ] {
        assert_eq!(parts(line), expected, "{line}");
    }
}

#[test]
fn a_value_consists_of_addresses_only() {
    let count = |text: &str| parse_value(text).map(|found| found.len());
    for (text, found) in [
        ("192.0.2.7", Ok(1)),
        ("192.0.2.7, 203.0.113.9", Ok(2)),
        ("192.0.2.0 - 192.0.2.9", Ok(1)),
        ("192.0.2.7 x", Err(RejectReason::NotAnAddress)),
        ("192.0.2.9-192.0.2.7", Err(RejectReason::AddressRange)),
        ("x", Err(RejectReason::NotAnAddress)),
        ("", Err(RejectReason::NotAnAddress)),
    ] {
        assert_eq!(count(text), found, "{text}");
    }
}
