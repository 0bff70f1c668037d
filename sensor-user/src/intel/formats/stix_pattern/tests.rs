//! What is sufficient in a pattern, what is not, and what becomes of hostile ones.

use proptest::prelude::*;

use super::*;
use crate::intel::indicator::PortRange;

/// What is sufficient as text: `prefix remote,remote/local`.
fn read(text: &str) -> Vec<String> {
    let found = read_pattern(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    found.iter().map(shown).collect()
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

fn fault(text: &str) -> String {
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
        read_pattern("[ipv4-addr:value = '192.0.2.9/24']").unwrap()[0].entity,
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
fn what_takes_more_than_the_remote_end_is_not_sufficient() {
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
fn addresses_of_one_end_that_are_joined_leave_what_is_in_both() {
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
fn ports_are_qualifiers_of_the_end_that_is_named() {
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
fn nothing_is_there_twice_or_inside_a_network_without_ports() {
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
fn a_fault_says_what_and_where() {
    for (text, said) in [
        ("", "\"\" where [ or ( should be at byte 0"),
        (
            "ipv4-addr:value = '192.0.2.1'",
            "\"ipv4-addr:value = '1\" where [ or ( should be at byte 0",
        ),
        ("[]", "\"]\" where a path such as ipv4-addr:value should be at byte 1"),
        (
            "[ipv4-addr:value '192.0.2.1']",
            "\"'192.0.2.1']\" where an operator such as = or IN should be at byte 17",
        ),
        ("[ipv4-addr:value = 192.0.2.1]", "\".2.1]\" where ] should be at byte 24"),
        ("[ipv4-addr:value = '192.0.2.1]", "a string without end at byte 19"),
        ("[ipv4-addr:value = '192.0.2.1\\", "a string without end at byte 19"),
        ("[ipv4-addr:value = /* '", "a comment without end at byte 19"),
        ("[ipv4-addr:value IN ()]", "\")]\" where a constant such as 'text' should be at byte 21"),
        (
            "[ipv4-addr:value = 'a'] x",
            "\"x\" where the end, or AND, OR, FOLLOWEDBY should be at byte 24",
        ),
        (
            "[ipv4-addr:value = 'a'] WITHIN SECONDS",
            "\"SECONDS\" where a number should be at byte 31",
        ),
        ("[ipv4-addr:value = 'a.b']", "\"a.b\" is neither an address nor a network at byte 19"),
        ("[ä", "\"ä\" where a path such as ipv4-addr:value should be at byte 1"),
    ] {
        assert_eq!(fault(text), said, "{text}");
    }
}

#[test]
fn patterns_made_to_hurt_are_refused_or_read_at_once() {
    assert!(fault(&"(".repeat(100_000)).starts_with("nested too deeply"));
    assert!(fault(&format!("[{}", "(".repeat(100_000))).starts_with("nested too deeply"));
    assert!(fault(&format!("[{A}]{}", " ".repeat(TEXT_MAX))).starts_with("more than"));
    // 2^40 alternatives.
    let two = format!("({A} OR network-traffic:dst_port = 1)");
    let product = vec![two; 40].join(" AND ");
    assert!(fault(&format!("[{product}]")).starts_with("too many alternatives"));
    // Two long lists of addresses, joined: a hundred million pairs.
    let list: Vec<String> =
        (0..10_000).map(|at| format!("'192.0.{}.{}'", at / 256, at % 256)).collect();
    let list = format!("ipv4-addr:value IN ({})", list.join(","));
    assert_eq!(read(&format!("[{list}]")).len(), 10_000);
    assert!(fault(&format!("[{list} AND {list}]")).starts_with("too many alternatives"));
    let not_in = list.replace(" IN ", " NOT IN ");
    assert!(fault(&format!("[{list} AND {not_in}]")).starts_with("too many alternatives"));
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
    fn nothing_makes_the_reader_panic(text in prop_oneof![tokens(), any::<String>()]) {
        if let Err(fault) = read_pattern(&text) {
            prop_assert!(fault.at <= text.len());
            prop_assert!(text.is_char_boundary(fault.at));
        }
    }
}
