//! Sufficient and insufficient patterns, and hostile ones.

use proptest::prelude::*;

use super::*;
use crate::intel::indicator::PortRange;

/// Sufficient prefixes as text: `prefix remote,remote/local`.
fn read(text: &str) -> Vec<String> {
    let found = read_pattern(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    found.merged().iter().map(shown).collect()
}

fn shown(it: &SufficientPrefix) -> String {
    let ports = |ranges: &[PortRange]| {
        let range = |it: &PortRange| {
            if it.first == it.last {
                it.first.to_string()
            } else {
                format!("{}-{}", it.first, it.last)
            }
        };
        ranges.iter().map(range).collect::<Vec<_>>().join(",")
    };
    if it.ports.is_any() {
        return it.prefix.to_string();
    }
    format!("{} {}/{}", it.prefix, ports(&it.ports.remote), ports(&it.ports.local))
}

fn error(text: &str) -> String {
    read_pattern(text).unwrap_err().to_string()
}

const A: &str = "ipv4-addr:value = '192.0.2.1'";
const B: &str = "ipv4-addr:value = '192.0.2.2'";
const FILE: &str = "file:hashes.'SHA-256' = 'aa'";
const DOMAIN: &str = "domain-name:value = 'a.example'";

#[test]
fn an_address_by_itself_is_sufficient_however_it_is_compared() {
    for (text, found) in [
        ("ipv4-addr:value = '192.0.2.1'", "192.0.2.1/32"),
        ("ipv4-addr:value == '192.0.2.1'", "192.0.2.1/32"),
        ("ipv4-addr:value = \"192.0.2.1\"", "192.0.2.1/32"),
        ("ipv4-addr:value = ' 192.0.2.1 '", "192.0.2.1/32"),
        ("ipv4-addr:value = '192.0.2.1/32'", "192.0.2.1/32"),
        ("ipv4-addr:value = '192.0.2.1/24'", "192.0.2.0/24"),
        ("ipv4-addr:value ISSUBSET '192.0.2.0/24'", "192.0.2.0/24"),
        ("ipv4-addr:value issubset '192.0.2.0/24'", "192.0.2.0/24"),
        ("ipv4-addr:value NOT != '192.0.2.1'", "192.0.2.1/32"),
        ("ipv6-addr:value = '2001:DB8::1'", "2001:db8::1/128"),
        ("ipv6-addr:value = '::ffff:192.0.2.1'", "192.0.2.1/32"),
        ("ipv6-addr:value = '192.0.2.1'", "192.0.2.1/32"),
        ("network-traffic:dst_ref.value = '192.0.2.1'", "192.0.2.1/32"),
        ("network-traffic:src_ref.value = '192.0.2.1'", "192.0.2.1/32"),
        ("network-traffic:'dst_ref'.value = '192.0.2.1'", "192.0.2.1/32"),
        ("domain-name:resolves_to_refs[*].value = '192.0.2.1'", "192.0.2.1/32"),
        ("domain-name:resolves_to_refs[0].value = '192.0.2.1'", "192.0.2.1/32"),
        ("ipv4-addr:value/* a */=// b\n'192.0.2.1'", "192.0.2.1/32"),
        ("ipv4-addr : value='192.0.2.1'", "192.0.2.1/32"),
        ("ipv4-addr:value = '192.0\\.2.1'", "192.0.2.1/32"),
    ] {
        assert_eq!(read(&format!("[{text}]")), [found], "{text}");
        assert_eq!(read(&format!(" ( [ ( {text} ) ] ) ")), [found], "{text}");
    }
    assert_eq!(
        read_pattern("[ipv4-addr:value = '192.0.2.9/24']").unwrap().sufficient[0].entity,
        "192.0.2.9/24"
    );
}

#[test]
fn every_alternative_counts() {
    for (text, found) in [
        (
            "[ipv4-addr:value IN ('192.0.2.1','192.0.2.2', 'x')]",
            &["192.0.2.1/32", "192.0.2.2/32"][..],
        ),
        ("[{A} OR {B}]", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("[{A}] OR [{B}]", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("[{DOMAIN} OR {A} OR {FILE}]", &["192.0.2.1/32"]),
        ("[{DOMAIN} AND {A} OR {B}]", &["192.0.2.2/32"]),
        ("[{DOMAIN} AND ({A} OR {B})]", &[]),
        ("[({DOMAIN} OR {A}) AND ({FILE} OR {A})]", &["192.0.2.1/32"]),
        ("[{FILE}] OR ([{B}] or [{DOMAIN}])", &["192.0.2.2/32"]),
        ("[{B}] WITHIN 300 SECONDS", &["192.0.2.2/32"]),
        ("[{B}] REPEATS 1 TIMES WITHIN 5.5 SECONDS", &["192.0.2.2/32"]),
    ] {
        assert_eq!(read(&filled(text)), found, "{text}");
    }
}

#[test]
fn patterns_that_need_more_than_the_remote_end_are_not_sufficient() {
    for text in [
        "[{A} AND {FILE}]",
        "[{A} AND {B}]",
        "[{A}] AND [{B}]",
        "[{A}] AND [{A}]",
        "[{A}] FOLLOWEDBY [{FILE}]",
        "[{A}] OR [{B}] FOLLOWEDBY [{FILE}]",
        "([{A}] AND [{B}]) WITHIN 5 SECONDS",
        "[{A}] REPEATS 2 TIMES",
        "[{A}] START t'2020-01-01T00:00:00Z' STOP t'2020-01-02T00:00:00Z'",
        "[{A} AND EXISTS ipv4-addr:belongs_to_refs]",
        "[EXISTS ipv4-addr:value]",
        "[NOT {A}]",
        "[NOT ({A} OR {B})]",
        "[ipv4-addr:value != '192.0.2.1']",
        "[ipv4-addr:value NOT = '192.0.2.1']",
        "[ipv4-addr:value NOT IN ('192.0.2.1')]",
        "[ipv4-addr:value NOT ISSUBSET '192.0.2.0/24']",
        "[ipv4-addr:value LIKE '192.0.2.%']",
        "[ipv4-addr:value MATCHES '^192']",
        "[ipv4-addr:value ISSUPERSET '192.0.2.1']",
        "[ipv4-addr:value > '192.0.2.1']",
        "[ipv4-addr:resolves_to_refs[*].value = '192.0.2.1']",
        "[network-traffic:dst_port = 443]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:src_ref.value = '192.0.2.2']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:src_ref.value != '192.0.2.2']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_ref.type = 'ipv6-addr']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:is_active = true]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 70000]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 'http']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port LIKE '44%']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[*] != 'tcp']",
        "[ipv4-addr:value ISSUBSET '192.0.2.0/24' AND ipv4-addr:value != '192.0.2.1']",
        "[windows-registry-key:key = 'HKLM\\\\x\\'y' OR file:created > t'2020-01-01T00:00:00Z' \
         OR file:contents = h'aa' OR file:contents = b'YQ==' OR file:size >= -1.5]",
    ] {
        assert_eq!(read(&filled(text)), [""; 0], "{text}");
    }
}

#[test]
fn joined_addresses_of_one_end_give_their_intersection() {
    for (text, found) in [
        (
            "ipv4-addr:value ISSUBSET '192.0.0.0/16' AND ipv4-addr:value ISSUBSET '192.0.2.0/24'",
            "192.0.2.0/24",
        ),
        ("{A} AND ipv4-addr:value != '192.0.2.2'", "192.0.2.1/32"),
        ("{A} AND network-traffic:dst_ref.value = '192.0.2.1'", "192.0.2.1/32"),
        ("{A} AND ipv4-addr:value NOT ISSUBSET '198.51.100.0/24'", "192.0.2.1/32"),
    ] {
        assert_eq!(read(&filled(&format!("[{text}]"))), [found], "{text}");
    }
}

#[test]
fn ports_qualify_the_named_end() {
    for (text, found) in [
        ("network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 443", "443/"),
        (
            "network-traffic:dst_port = '443' AND network-traffic:dst_ref.value = '192.0.2.1'",
            "443/",
        ),
        ("network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:src_port = 53", "/53"),
        ("network-traffic:src_ref.value = '192.0.2.1' AND network-traffic:src_port = 53", "53/"),
        (
            "network-traffic:src_ref.value = '192.0.2.1' AND network-traffic:dst_port IN (80, 81, '443')",
            "/80-81,443",
        ),
        (
            "{A} AND network-traffic:dst_port >= 1024 AND network-traffic:dst_port < 2048",
            "1024-2047/",
        ),
        ("{A} AND network-traffic:dst_port != 22", "0-21,23-65535/"),
        ("{A} AND network-traffic:dst_port NOT IN (0, 65535)", "1-65534/"),
        ("{A} AND network-traffic:dst_port > 65534 AND network-traffic:src_port <= 1", "65535/0-1"),
        (
            "network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = \
             '192.0.2.1' AND network-traffic:dst_port = 443 AND network-traffic:protocols[*] = 'tcp'",
            "443/",
        ),
        ("{A} AND (network-traffic:dst_port = 80 OR network-traffic:dst_port = 443)", "80,443/"),
    ] {
        assert_eq!(
            read(&filled(&format!("[{text}]"))),
            [format!("192.0.2.1/32 {found}")],
            "{text}"
        );
    }
    assert_eq!(read(&filled("[{A} AND network-traffic:dst_port >= 0]")), ["192.0.2.1/32"]);
}

#[test]
fn duplicates_and_prefixes_inside_a_network_without_ports_are_removed() {
    let port = |port: u16| format!("[{A} AND network-traffic:dst_port = {port}]");
    let wide = "[ipv4-addr:value ISSUBSET '192.0.2.0/24']";
    assert_eq!(read(&format!("[{B}] OR [{A}] OR [{B}]")), ["192.0.2.2/32", "192.0.2.1/32"]);
    assert_eq!(read(&format!("[{A}] OR {wide} OR [{B}]")), ["192.0.2.0/24"]);
    assert_eq!(read(&format!("{} OR [{A}]", port(80))), ["192.0.2.1/32"]);
    assert_eq!(read(&format!("{} OR {wide}", port(80))), ["192.0.2.0/24"]);
    assert_eq!(read(&format!("{} OR {}", port(443), port(80))), ["192.0.2.1/32 80,443/"]);
    let narrow = format!(
        "[ipv4-addr:value ISSUBSET '192.0.2.0/24' AND network-traffic:dst_port = 9] OR {}",
        port(80)
    );
    assert_eq!(read(&narrow), ["192.0.2.0/24 9/", "192.0.2.1/32 80/"]);
}

#[test]
fn an_error_has_its_reason_and_offset() {
    for (text, message) in [
        ("", "expected [ or (, found \"\" at byte 0"),
        (
            "ipv4-addr:value = '192.0.2.1'",
            "expected [ or (, found \"ipv4-addr:value = '1\" at byte 0",
        ),
        ("[]", "expected a path such as ipv4-addr:value, found \"]\" at byte 1"),
        (
            "[ipv4-addr:value '192.0.2.1']",
            "expected an operator such as = or IN, found \"'192.0.2.1']\" at byte 17",
        ),
        ("[ipv4-addr:value = 192.0.2.1]", "expected ], found \".2.1]\" at byte 24"),
        ("[ipv4-addr:value = '192.0.2.1]", "a string without end at byte 19"),
        ("[ipv4-addr:value = '192.0.2.1\\", "a string without end at byte 19"),
        ("[ipv4-addr:value = /* '", "a comment without end at byte 19"),
        (
            "[ipv4-addr:value IN (,)]",
            "expected a constant such as 'text', found \",)]\" at byte 21",
        ),
        (
            "[network-traffic:dst_ref.value = '192.0.2.300']",
            "\"192.0.2.300\" is neither an address nor a network at byte 33",
        ),
        (
            "[network-traffic:src_ref.value IN ('c2.example', '2001:db8::zz')]",
            "\"2001:db8::zz\" is neither an address nor a network at byte 49",
        ),
        (
            "[ipv4-addr:value = 'a'] x",
            "expected the end, or AND, OR, FOLLOWEDBY, found \"x\" at byte 24",
        ),
        (
            "[ipv4-addr:value = 'a'] WITHIN SECONDS",
            "expected a number, found \"SECONDS\" at byte 31",
        ),
        ("[ipv4-addr:value = 'a.b']", "\"a.b\" is neither an address nor a network at byte 19"),
        ("[ä", "expected a path such as ipv4-addr:value, found \"ä\" at byte 1"),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
}

#[test]
fn a_reference_to_a_name_is_no_address_and_no_error() {
    for (text, found) in [
        ("network-traffic:dst_ref.value = 'c2.example'", &[][..]),
        (
            "network-traffic:dst_ref.type = 'domain-name' AND \
             network-traffic:dst_ref.value = 'c2.example'",
            &[],
        ),
        ("network-traffic:src_ref.value = '00:00:5e:00:53:01'", &[]),
        ("network-traffic:dst_ref.value = 'c2.example.'", &[]),
        ("network-traffic:dst_ref.value = 'grün.example'", &[]),
        ("domain-name:resolves_to_refs[*].value = 'www.example'", &[]),
        ("network-traffic:dst_ref.value IN ('c2.example', '192.0.2.1')", &["192.0.2.1/32"]),
        (
            "network-traffic:dst_ref.value = 'c2.example' OR ipv4-addr:value = '192.0.2.1'",
            &["192.0.2.1/32"],
        ),
    ] {
        assert_eq!(read(&format!("[{text}]")), found, "{text}");
    }
}

#[test]
fn an_empty_set_has_no_value() {
    let ports = "network-traffic:dst_port";
    for (text, found) in [
        ("ipv4-addr:value IN ()".to_owned(), &[][..]),
        (format!("ipv4-addr:value IN ( ) OR {A}"), &["192.0.2.1/32"]),
        (format!("{A} AND ipv4-addr:value IN ()"), &[]),
        (format!("{A} AND ipv4-addr:value NOT IN ()"), &["192.0.2.1/32"]),
        (format!("{A} AND {ports} IN ()"), &[]),
        (format!("{A} AND {ports} NOT IN ()"), &["192.0.2.1/32"]),
        (format!("{A} AND network-traffic:protocols[*] IN ()"), &[]),
        (format!("{A} AND network-traffic:protocols[*] NOT IN ()"), &["192.0.2.1/32"]),
        (format!("{A} AND network-traffic:dst_ref.type IN ()"), &[]),
        (format!("{A} AND file:name NOT IN ()"), &[]),
        ("ipv4-addr:value NOT IN ()".to_owned(), &[]),
    ] {
        assert_eq!(read(&format!("[{text}]")), found, "{text}");
    }
}

#[test]
fn each_address_of_an_exported_object_is_an_alternative() {
    let v4 = |address: &str| {
        format!(
            "network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '{address}'"
        )
    };
    let v6 = "network-traffic:dst_ref.type = 'ipv6-addr' AND network-traffic:dst_ref.value = '2001:db8::1'";
    let (a, b) = (v4("192.0.2.1"), v4("192.0.2.2"));
    let source = a.replace("dst_ref", "src_ref");
    let domain = "network-traffic:dst_ref.type = 'domain-name' AND network-traffic:dst_ref.value = 'c2.example'";
    let port = "network-traffic:dst_port = '443'";
    for (text, found) in [
        (format!("[{a} AND {b}]"), &["192.0.2.1/32", "192.0.2.2/32"][..]),
        (format!("[{a} AND {b} AND {port}]"), &["192.0.2.1/32 443/", "192.0.2.2/32 443/"]),
        (format!("[{port} AND {a} AND {v6}]"), &["192.0.2.1/32 443/", "2001:db8::1/128 443/"]),
        (format!("[{source} AND {b}]"), &["192.0.2.1/32", "192.0.2.2/32"]),
        (format!("[{a} AND {domain} AND {b}]"), &["192.0.2.1/32", "192.0.2.2/32"]),
        (format!("[{domain} AND {port}]"), &[]),
        (format!("[{a}]"), &["192.0.2.1/32"]),
    ] {
        let read: Vec<String> =
            read_alternatives(&text).unwrap().merged().iter().map(shown).collect();
        assert_eq!(read, found, "{text}");
    }
    // Many addresses are as many alternatives, not their product.
    let many: Vec<String> = (0..200).map(|last| v4(&format!("192.0.2.{last}"))).collect();
    let text = format!("[{} AND {port}]", many.join(" AND "));
    assert_eq!(read_alternatives(&text).unwrap().sufficient.len(), 200);
}

#[test]
fn hostile_patterns_are_rejected_or_parsed_in_bounded_time() {
    assert!(error(&"(".repeat(100_000)).starts_with("nested too deeply"));
    assert!(error(&format!("[{}", "(".repeat(100_000))).starts_with("nested too deeply"));
    assert!(error(&format!("[{A}]{}", " ".repeat(TEXT_MAX))).starts_with("more than"));
    // 2^40 alternatives.
    let two = format!("({A} OR network-traffic:dst_port = 1)");
    let product = vec![two; 40].join(" AND ");
    assert!(error(&format!("[{product}]")).starts_with("too many alternatives"));
    // Two long lists of addresses, joined: a hundred million pairs.
    let list: Vec<String> =
        (0..10_000).map(|at| format!("'192.0.{}.{}'", at / 256, at % 256)).collect();
    let list = format!("ipv4-addr:value IN ({})", list.join(","));
    assert_eq!(read(&format!("[{list}]")).len(), 10_000);
    assert!(error(&format!("[{list} AND {list}]")).starts_with("too many alternatives"));
    let not_in = list.replace(" IN ", " NOT IN ");
    assert!(error(&format!("[{list} AND {not_in}]")).starts_with("too many alternatives"));
    // Long, but plain.
    let many = vec![A; 20_000].join(" OR ");
    assert_eq!(read(&format!("[{many}]")), ["192.0.2.1/32"]);
}

fn filled(text: &str) -> String {
    text.replace("{A}", A).replace("{B}", B).replace("{FILE}", FILE).replace("{DOMAIN}", DOMAIN)
}

/// Parts of patterns in any order: mostly nonsense, sometimes nearly right.
fn tokens() -> impl Strategy<Value = String> {
    const PARTS: [&str; 30] = [
        "[",
        "]",
        "(",
        ")",
        " AND ",
        " OR ",
        " NOT ",
        " FOLLOWEDBY ",
        "ipv4-addr:value",
        "=",
        "!=",
        " IN ",
        "('192.0.2.1')",
        "'192.0.2.1'",
        "'x'",
        " ISSUBSET ",
        "network-traffic:dst_port",
        "443",
        " REPEATS 2 TIMES",
        " WITHIN 1 SECONDS",
        " START t'a' STOP t'b'",
        "EXISTS ",
        "'",
        "\\",
        "é",
        "[*]",
        ".",
        ":",
        ",",
        "network-traffic:dst_ref.value",
    ];
    prop::collection::vec(prop::sample::select(&PARTS[..]), 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![tokens(), any::<String>()]) {
        if let Err(error) = read_pattern(&text) {
            prop_assert!(error.at <= text.len());
            prop_assert!(text.is_char_boundary(error.at));
        }
    }
}
