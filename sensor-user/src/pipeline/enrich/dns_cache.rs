//! `DnsCache`: names that resolved to an address, from the DNS answers of the last hour, and from
//! older ones that are still valid.
//!
//! Invariants. At most `max` names are kept over all addresses; those of the least recently used
//! address are evicted first (counted). An address has at most `NAMES_PER_ADDRESS`; the oldest
//! answer is replaced first (counted). An answer that arrives twice, from a server and through a
//! stub resolver of this host, counts once.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::dns_answer::DnsAnswer;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;

/// Minimum time for which a name is kept.
const RETENTION_MIN: SignedDuration = SignedDuration::from_hours(1);
/// Maximum time to live of an answer, seconds: a day, as in common resolvers. RFC 8767, section 4,
/// leaves the limit to the resolver.
const TTL_MAX: u32 = 86_400;
/// Maximum number of names of one address: that of a content delivery network has thousands.
const NAMES_PER_ADDRESS: usize = 16;

/// A resolved name, and the end of its alias chain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CachedName {
    question: Arc<str>,
    canonical: Arc<str>,
    until: Timestamp,
}

/// Names of an address: JSON arrays as text, the latest answer first; "" for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsNames {
    /// `RemoteDnsQuestions`: names in the question section.
    pub questions: String,
    /// `RemoteDnsCanonicalNames`: names at the end of their alias chains.
    pub canonical_names: String,
}

/// Resolved names by address.
#[derive(Debug)]
pub struct DnsCache {
    addresses: Table<IpAddr, Vec<CachedName>>,
    max: usize,
    /// Number of names in `addresses`.
    len: usize,
    stats: Arc<Stats>,
}

impl DnsCache {
    /// Default maximum number of names. Each takes some 200 bytes, and at most 700.
    pub const MAX: usize = 16_384;

    /// An empty cache of at most `max` names; with 0 it stays empty.
    pub fn new(max: usize, stats: Arc<Stats>) -> Self {
        // One more, so that the table never evicts by itself, uncounted.
        let addresses = collections::table(max.saturating_add(1));
        Self { addresses, max, len: 0, stats }
    }

    /// Number of names, and its maximum.
    pub const fn occupancy(&self) -> (usize, usize) {
        (self.len, self.max)
    }

    /// Adds the names of an answer.
    pub fn insert(&mut self, answer: &DnsAnswer) {
        if self.max == 0 {
            return;
        }
        let valid = SignedDuration::from_secs(answer.ttl_seconds.min(TTL_MAX).into());
        let until = answer
            .time_generated
            .saturating_add(RETENTION_MIN.max(valid))
            .unwrap_or(Timestamp::MAX);
        let question: Arc<str> = answer.question.as_str().into();
        let canonical = if answer.canonical_name == answer.question {
            Arc::clone(&question)
        } else {
            answer.canonical_name.as_str().into()
        };
        let name = CachedName { question, canonical, until };
        for address in &answer.addresses {
            self.add(*address, name.clone(), answer.time_generated);
        }
    }

    fn add(&mut self, address: IpAddr, name: CachedName, now: Timestamp) {
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
        if names.len() >= NAMES_PER_ADDRESS.min(self.max) {
            names.remove(0);
            self.stats.dns_names_replaced.increment();
        }
        names.push(CachedName { until, ..name });
        self.len = (self.len + names.len()).saturating_sub(before);
        while self.len > self.max {
            let Some((_, names)) = self.addresses.pop_lru() else { break };
            self.len = self.len.saturating_sub(names.len());
            let current = names.iter().filter(|name| name.until > now).count();
            self.stats.dns_names_evicted.add(current as u64);
        }
    }

    /// Names of `address` that are valid at `now`.
    pub fn get(&mut self, address: IpAddr, now: Timestamp) -> DnsNames {
        let Some(names) = self.addresses.get(&address) else { return DnsNames::default() };
        let known = || names.iter().rev().filter(|name| name.until > now);
        DnsNames {
            questions: json_array(known().map(|name| &*name.question)),
            canonical_names: json_array(known().map(|name| &*name.canonical)),
        }
    }
}

/// Formats the distinct names as a JSON array.
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
    fn an_address_has_its_names_for_an_hour_or_their_time_to_live() {
        let mut names = names(100);
        let both = ["203.0.113.7", "2001:db8::7"];
        names.insert(&answer(0, ("www.evil.example", "c2.example"), &both, 60));
        names.insert(&answer(9, ("evil.example", "c2.example"), &both[..1], 7200));
        // A duplicate, from a stub resolver.
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
        // The time to live is limited.
        names.insert(&answer(0, ("old.example", "old.example"), &["192.0.2.1"], u32::MAX));
        assert_eq!(questions(&mut names, "192.0.2.1", 86_399), r#"["old.example"]"#);
        assert_eq!(questions(&mut names, "192.0.2.1", 86_400), "");
    }

    #[test]
    fn names_are_bounded_and_evictions_are_counted() {
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
    fn a_name_with_special_characters_is_json() {
        let mut names = names(10);
        names.insert(&answer(0, (r#"\027[2j".example"#, "a.example"), &["203.0.113.7"], 60));
        let text = questions(&mut names, "203.0.113.7", 0);
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [r#"\027[2j".example"#]);
    }
}
