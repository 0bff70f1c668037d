//! Random patterns, each in two equivalent forms: strict STIX, and the variants found in feeds.
//! There are few addresses and ports, so that flows match often.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

/// Deviations from STIX that the reader accepts, or gives another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leniency {
    /// A network with `=` or `IN`.
    NetworkByEquals,
    /// A port in quotes.
    QuotedPort,
    /// An address object together with ports of a flow: two object types.
    TwoTypes,
    /// Keywords in lower case.
    KeywordCase,
    /// A string in double quotes.
    DoubleQuotes,
    /// An IPv6 address that is not in its shortest form, which STIX compares as different text.
    LongAddress,
    /// Another protocol than the flow's.
    Protocol,
}

#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) strict: String,
    pub(crate) lenient: String,
    pub(crate) leniencies: BTreeSet<Leniency>,
    /// True if it has a comparison that may match a flow but gives no address: `!=`, `LIKE`.
    pub(crate) is_weak: bool,
}

/// A flow to match.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Flow {
    pub(crate) remote: IpAddr,
    pub(crate) remote_port: Option<u16>,
    pub(crate) local_port: Option<u16>,
}

const PORTS: [u16; 5] = [22, 80, 443, 8080, 40_000];

/// Object types whose properties an `AND` may combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    V4,
    V6,
    Traffic,
    Other,
}

/// A flow for a pattern. The reference matcher fails when it compares an IPv6 address with a
/// network.
pub(crate) fn flow(rng: &mut Rng, pattern: &Pattern) -> Flow {
    let is_v4 = pattern.strict.contains("SUBSET");
    let port = |rng: &mut Rng| (rng.u8(..5) > 0).then(|| PORTS[rng.usize(..3)]);
    let remote = if !is_v4 && rng.u8(..3) == 0 { v6(rng).into() } else { v4(rng).into() };
    Flow { remote, remote_port: port(rng), local_port: port(rng) }
}

fn v4(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, rng.u8(1..7))
}

fn v6(rng: &mut Rng) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, rng.u16(1..4))
}

fn network(rng: &mut Rng) -> &'static str {
    ["192.0.2.0/30", "192.0.2.4/30", "192.0.2.0/24", "198.51.100.0/24", "192.0.2.2/32"]
        [rng.usize(..5)]
}

pub(crate) fn pattern(rng: &mut Rng) -> Pattern {
    let mut writer = Writer {
        pattern: Pattern {
            strict: String::new(),
            lenient: String::new(),
            leniencies: BTreeSet::new(),
            is_weak: false,
        },
        rng,
    };
    writer.observations(2);
    writer.pattern
}

struct Writer<'r> {
    pattern: Pattern,
    rng: &'r mut Rng,
}

impl Writer<'_> {
    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    fn both(&mut self, text: &str) {
        self.two(text, text);
    }

    fn two(&mut self, strict: &str, lenient: &str) {
        self.pattern.strict.push_str(strict);
        self.pattern.lenient.push_str(lenient);
    }

    fn is_lenient(&mut self, leniency: Leniency) -> bool {
        let count = match leniency {
            Leniency::QuotedPort | Leniency::Protocol | Leniency::LongAddress => 2,
            Leniency::DoubleQuotes => 80,
            _ => 16,
        };
        let deviates = self.one_in(count);
        if deviates {
            self.pattern.leniencies.insert(leniency);
        }
        deviates
    }

    fn word(&mut self, word: &str) {
        let is_lower_case = self.one_in(150);
        if is_lower_case {
            self.pattern.leniencies.insert(Leniency::KeywordCase);
        }
        let lenient = if is_lower_case { word.to_ascii_lowercase() } else { word.to_owned() };
        self.two(word, &lenient);
    }

    fn observations(&mut self, depth: u32) {
        self.observation(depth);
        while self.one_in(3) {
            match self.rng.u8(..8) {
                0 => self.word(" AND "),
                1 => self.word(" FOLLOWEDBY "),
                _ => self.word(" OR "),
            }
            self.observation(depth);
        }
    }

    fn observation(&mut self, depth: u32) {
        if depth > 0 && self.one_in(5) {
            self.both("(");
            self.observations(depth - 1);
            self.both(")");
        } else {
            self.both("[");
            self.comparisons();
            self.both("]");
        }
        match self.rng.u8(..20) {
            0 => self.word(" WITHIN 5 SECONDS"),
            1 => self.word(" REPEATS 1 TIMES"),
            2 => self.word(" REPEATS 2 TIMES"),
            3 => {
                self.pattern.is_weak = true;
                self.both(" START t'2026-01-01T00:00:00Z' STOP t'2027-01-01T00:00:00Z'");
            }
            _ => {}
        }
    }

    fn comparisons(&mut self) {
        self.joint();
        while self.one_in(3) {
            self.word(" OR ");
            self.joint();
        }
    }

    /// Comparisons of one object. The first one is of an address, because ports alone are not
    /// sufficient.
    fn joint(&mut self) {
        let object = match self.rng.u8(..10) {
            0..4 => Object::V4,
            4 => Object::V6,
            5..9 => Object::Traffic,
            _ => Object::Other,
        };
        // An address object with ports: in strict STIX that is the destination of the flow.
        if object == Object::V4 && self.is_lenient(Leniency::TwoTypes) {
            self.address("network-traffic:dst_ref.value", "ipv4-addr:value");
            self.word(" AND ");
            return self.port("dst_port");
        }
        self.first(object);
        while self.one_in(2) {
            self.word(" AND ");
            if self.one_in(4) {
                self.both("(");
                self.further(object);
                self.word(" OR ");
                self.further(object);
                self.both(")");
            } else {
                self.further(object);
            }
        }
    }

    fn first(&mut self, object: Object) {
        match object {
            Object::V4 => self.address("ipv4-addr:value", "ipv4-addr:value"),
            Object::V6 => self.v6("ipv6-addr:value"),
            Object::Traffic => {
                let path = if self.one_in(3) { "src_ref" } else { "dst_ref" };
                let path = format!("network-traffic:{path}.value");
                if self.one_in(5) { self.v6(&path) } else { self.address(&path, &path) }
            }
            Object::Other if self.one_in(2) => self.both("file:name = 'x'"),
            Object::Other => self.both("file:hashes.'SHA-256' = 'aa'"),
        }
    }

    fn further(&mut self, object: Object) {
        if object != Object::Traffic {
            if object == Object::V4 && self.one_in(4) {
                return self.weak();
            }
            return self.first(object);
        }
        match self.rng.u8(..8) {
            0..3 => self.port("dst_port"),
            3..5 => self.port("src_port"),
            5 => {
                let end = if self.one_in(4) { "src" } else { "dst" };
                let of = if self.one_in(4) { "ipv6" } else { "ipv4" };
                self.both(&format!("network-traffic:{end}_ref.type = '{of}-addr'"));
            }
            6 => {
                let is_other = self.is_lenient(Leniency::Protocol);
                let other = if is_other { "udp" } else { "tcp" };
                self.two(
                    "network-traffic:protocols[*] = 'tcp'",
                    &format!("network-traffic:protocols[*] = '{other}'"),
                );
            }
            _ => self.first(object),
        }
    }

    /// A comparison that gives no address, but may match.
    fn weak(&mut self) {
        self.pattern.is_weak = true;
        let address = v4(self.rng);
        let text = match self.rng.u8(..6) {
            0 => format!("!= '{address}'"),
            1 => format!("NOT = '{address}'"),
            2 => format!("NOT IN ('{address}', '192.0.2.1')"),
            3 => "NOT ISSUBSET '192.0.2.4/30'".to_owned(),
            4 => "LIKE '192.0.%'".to_owned(),
            _ => "MATCHES '^192'".to_owned(),
        };
        self.both(&format!("ipv4-addr:value {text}"));
    }

    /// A comparison of an address; `strict` and `lenient` are object paths.
    fn address(&mut self, strict: &str, lenient: &str) {
        match self.rng.u8(..6) {
            0 => {
                let network = network(self.rng);
                let test = format!("ISSUBSET '{network}'");
                self.two(&format!("{strict} {test}"), &format!("{lenient} {test}"));
            }
            1 => {
                let (a, b) = (v4(self.rng), v4(self.rng));
                let network = network(self.rng);
                if self.is_lenient(Leniency::NetworkByEquals) {
                    self.two(
                        &format!("({strict} IN ('{a}') OR {strict} ISSUBSET '{network}')"),
                        &format!("{lenient} IN ('{a}','{network}')"),
                    );
                } else {
                    let list = format!("IN ('{a}', '{b}')");
                    self.two(&format!("{strict} {list}"), &format!("{lenient} {list}"));
                }
            }
            _ => {
                let address = v4(self.rng);
                if self.is_lenient(Leniency::NetworkByEquals) {
                    let network = network(self.rng);
                    self.two(
                        &format!("{strict} ISSUBSET '{network}'"),
                        &format!("{lenient} = '{network}'"),
                    );
                } else if self.is_lenient(Leniency::DoubleQuotes) {
                    self.two(
                        &format!("{strict} = '{address}'"),
                        &format!("{lenient}=\"{address}\""),
                    );
                } else {
                    self.two(
                        &format!("{strict} = '{address}'"),
                        &format!("{lenient} = '{address}'"),
                    );
                }
            }
        }
    }

    fn v6(&mut self, path: &str) {
        let address = v6(self.rng);
        let is_long = self.is_lenient(Leniency::LongAddress);
        let text = address.to_string();
        let long = if is_long { text.replace("::", ":0:0:0:0:0:") } else { text.clone() };
        self.two(&format!("{path} = '{text}'"), &format!("{path} = '{long}'"));
    }

    fn port(&mut self, name: &str) {
        let (a, b) = (PORTS[self.rng.usize(..4)], PORTS[self.rng.usize(..5)]);
        let path = format!("network-traffic:{name}");
        let text = match self.rng.u8(..16) {
            0 => format!("IN ({a}, {b})"),
            1 => format!("NOT IN ({a}, {b})"),
            2 => format!("!= {a}"),
            3 => format!("> {a}"),
            4 => format!(">= {a}"),
            5 => format!("< {a}"),
            6 => format!("<= {a}"),
            _ => {
                let is_quoted = self.is_lenient(Leniency::QuotedPort);
                let quoted = if is_quoted { format!("'{a}'") } else { a.to_string() };
                return self.two(&format!("{path} = {a}"), &format!("{path} = {quoted}"));
            }
        };
        self.both(&format!("{path} {text}"));
    }
}
