//! `Names`: which names led to an address, as DNS answered on this host within the last hour, or
//! longer ago where an answer is still valid.
//!
//! Invariants. At most `max` names are kept over all addresses; those of the address that was looked
//! up or answered longest ago leave first (counted). An address has at most `NAMES_OF_ONE`; the one
//! answered longest ago leaves first (counted). An answer that comes twice, from a server and by way
//! of a stub resolver of this host, is one.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::dns_answer::DnsAnswer;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;

/// How long a name is kept at least.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Seconds for which an answer is taken to be valid at most, whatever it says: a day, which is what
/// resolvers take (RFC 8767, section 4, leaves it to them).
const TTL_MAX: u32 = 86_400;
/// Names of one address at most: a content network's has thousands.
const NAMES_OF_ONE: usize = 16;

/// A question, and the name behind its aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    question: Arc<str>,
    canonical: Arc<str>,
    until: Timestamp,
}

/// What is said of an address: JSON arrays as text, the latest answer first; "" for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsNames {
    /// `RemoteDnsQuestions`: names that were asked for.
    pub questions: String,
    /// `RemoteDnsCanonicalNames`: the names behind their aliases.
    pub canonical_names: String,
}

/// Names by address.
#[derive(Debug)]
pub struct DnsCache {
    addresses: Table<IpAddr, Vec<Name>>,
    max: usize,
    /// Names in `addresses`.
    len: usize,
    stats: Arc<Stats>,
}

impl DnsCache {
    /// Names unless set. Each takes some 200 bytes, 700 at most.
    pub const MAX: usize = 16_384;

    /// Knows none; keeps `max` at most, and none at all with 0.
    pub fn new(max: usize, stats: Arc<Stats>) -> Self {
        // One more: it never evicts by itself, unseen.
        let addresses = collections::table(max.saturating_add(1));
        Self { addresses, max, len: 0, stats }
    }

    /// Entries, and how many there may be.
    pub const fn occupancy(&self) -> (usize, usize) {
        (self.len, self.max)
    }

    /// Takes an answer in.
    pub fn insert(&mut self, answer: &DnsAnswer) {
        if self.max == 0 {
            return;
        }
        let valid = SignedDuration::from_secs(answer.ttl_seconds.min(TTL_MAX).into());
        let until = answer.time_generated.saturating_add(KEPT.max(valid)).unwrap_or(Timestamp::MAX);
        let question: Arc<str> = answer.question.as_str().into();
        let canonical = if answer.canonical_name == answer.question {
            Arc::clone(&question)
        } else {
            answer.canonical_name.as_str().into()
        };
        let name = Name { question, canonical, until };
        for address in &answer.addresses {
            self.add(*address, name.clone(), answer.time_generated);
        }
    }

    fn add(&mut self, address: IpAddr, name: Name, now: Timestamp) {
        let names = self.addresses.get_or_insert_mut(address, Vec::new);
        let before = names.len();
        let mut until = name.until;
        names.retain(|known| {
            let same = known.question == name.question && known.canonical == name.canonical;
            if same {
                until = until.max(known.until);
            }
            !same && known.until > now
        });
        if names.len() >= NAMES_OF_ONE.min(self.max) {
            names.remove(0);
            self.stats.dns_names_replaced.increment();
        }
        names.push(Name { until, ..name });
        self.len = (self.len + names.len()).saturating_sub(before);
        while self.len > self.max {
            let Some((_, names)) = self.addresses.pop_lru() else { break };
            self.len = self.len.saturating_sub(names.len());
            let current = names.iter().filter(|name| name.until > now).count();
            self.stats.dns_names_evicted.add(current as u64);
        }
    }

    /// The names of `address` at `now`.
    pub fn get(&mut self, address: IpAddr, now: Timestamp) -> DnsNames {
        let Some(names) = self.addresses.get(&address) else { return DnsNames::default() };
        let known = || names.iter().rev().filter(|name| name.until > now);
        DnsNames {
            questions: json_array(known().map(|name| &*name.question)),
            canonical_names: json_array(known().map(|name| &*name.canonical)),
        }
    }
}

/// Each once.
fn json_array<'n>(names: impl Iterator<Item = &'n str> + 'n) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    if distinct.is_empty() {
        return String::new();
    }
    serde_json::to_string(&distinct).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(max: usize) -> DnsCache {
        DnsCache::new(max, Arc::new(Stats::default()))
    }

    fn answer(second: i64, chain: (&str, &str), addresses: &[&str], ttl_seconds: u32) -> DnsAnswer {
        DnsAnswer {
            time_generated: at(second),
            question: chain.0.to_owned(),
            canonical_name: chain.1.to_owned(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ttl_seconds,
        }
    }

    fn questions(names: &mut DnsCache, address: &str, second: i64) -> String {
        names.get(address.parse().unwrap(), at(second)).questions
    }

    #[test]
    fn an_address_has_the_names_that_led_to_it_for_an_hour_or_their_validity() {
        let mut names = names(100);
        let both = ["203.0.113.7", "2001:db8::7"];
        names.insert(&answer(0, ("www.evil.example", "c2.example"), &both, 60));
        names.insert(&answer(9, ("evil.example", "c2.example"), &both[..1], 7200));
        // The same once more, from a stub resolver.
        names.insert(&answer(9, ("evil.example", "c2.example"), &both[..1], 0));
        let v4 = both[0].parse().unwrap();
        let expected = DnsNames {
            questions: r#"["evil.example","www.evil.example"]"#.to_owned(),
            canonical_names: r#"["c2.example"]"#.to_owned(),
        };
        assert_eq!(names.get(v4, at(3599)), expected);
        assert_eq!(questions(&mut names, both[1], 3599), r#"["www.evil.example"]"#);
        assert_eq!(questions(&mut names, both[1], 3600), "");
        assert_eq!(questions(&mut names, both[0], 7208), r#"["evil.example"]"#);
        assert_eq!(names.get(v4, at(7209)), DnsNames::default());
        assert_eq!(names.get("203.0.113.8".parse().unwrap(), at(1)), DnsNames::default());
        // Nothing is valid for ever.
        names.insert(&answer(0, ("old.example", "old.example"), &["192.0.2.1"], u32::MAX));
        assert_eq!(questions(&mut names, "192.0.2.1", 86_399), r#"["old.example"]"#);
        assert_eq!(questions(&mut names, "192.0.2.1", 86_400), "");
    }

    #[test]
    fn names_are_bounded_and_what_leaves_is_counted() {
        let mut names = names(40);
        for number in 0..20 {
            let name = format!("n{number}.example");
            names.insert(&answer(number, (&name, &name), &["203.0.113.7"], 60));
        }
        assert_eq!(names.stats.dns_names_replaced.value(), 4);
        let known = questions(&mut names, "203.0.113.7", 20);
        assert!(known.starts_with(r#"["n19.example","n18.example","#), "{known}");
        assert!(known.ends_with(r#""n4.example"]"#), "{known}");
        for number in 0..200 {
            let address = format!("198.51.100.{number}");
            names.insert(&answer(30, ("a.example", "a.example"), &[&address], 60));
            assert!(names.len <= 40);
            let kept: usize = names.addresses.iter().map(|(_, names)| names.len()).sum();
            assert_eq!(names.len, kept);
        }
        assert_eq!(names.stats.dns_names_evicted.value(), 16 + 160);
        assert_eq!(questions(&mut names, "203.0.113.7", 30), "");
        assert_eq!(questions(&mut names, "198.51.100.199", 30), r#"["a.example"]"#);
        let mut off = DnsCache::new(0, Arc::new(Stats::default()));
        off.insert(&answer(0, ("a.example", "a.example"), &["203.0.113.7"], 60));
        assert_eq!(questions(&mut off, "203.0.113.7", 0), "");
    }

    #[test]
    fn a_name_that_is_no_text_is_json() {
        let mut names = names(10);
        names.insert(&answer(0, (r#"\027[2j".example"#, "a.example"), &["203.0.113.7"], 60));
        let text = questions(&mut names, "203.0.113.7", 0);
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [r#"\027[2j".example"#]);
    }
}
