//! `UsableAddresses`: the addresses of a pattern that its feed may use.

use std::collections::BTreeSet;

use super::comparison::{networks, not_an_address};
use super::normalize::merge;
use super::{PatternAddresses, SufficientPrefix};
use crate::intel::address::Exclusion;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::indicator::Ports;
use crate::intel::rejects::RejectReason;

/// Addresses of a pattern: at least one that may be used.
#[derive(Debug)]
pub(crate) struct UsableAddresses {
    /// Without duplicates; see [`PatternAddresses::merged`].
    pub(crate) usable: Vec<SufficientPrefix>,
    /// Reason and text of each of the others.
    pub(crate) rejected: Vec<(RejectReason, String)>,
}

impl PatternAddresses {
    /// Adds a value that another parser found in a pattern: an address, a network or a range.
    pub(crate) fn add(&mut self, text: &str) {
        let found = networks(text);
        if found.is_empty() {
            self.unreadable.push(not_an_address(0, text));
        }
        let ports = Ports::default;
        let named = |prefix| SufficientPrefix { prefix, entity: text.to_owned(), ports: ports() };
        self.sufficient.extend(found.into_iter().map(named));
    }

    /// Separates the addresses that may be used from the others. A range is too wide if one of its
    /// networks is, and hides none of the others. If there are none, returns the first reason with its text, "" for the whole pattern.
    pub(crate) fn check(
        self,
        policy: &ReadPolicy,
    ) -> Result<UsableAddresses, (RejectReason, String)> {
        let too_short = RejectReason::Excluded(Exclusion::TooShort);
        let (mut usable, mut rejected) = (Vec::with_capacity(self.sufficient.len()), Vec::new());
        for it in self.sufficient {
            match policy.prefixes.exclusion(&it.prefix) {
                None => usable.push(it),
                Some(exclusion) => rejected.push((RejectReason::Excluded(exclusion), it.entity)),
            }
        }
        let is_too_short = |(reason, _): &&(RejectReason, String)| *reason == too_short;
        let too_wide: BTreeSet<&String> =
            rejected.iter().filter(is_too_short).map(|(_, entity)| entity).collect();
        if !too_wide.is_empty() {
            usable.retain(|it| !too_wide.contains(&it.entity));
        }
        let unreadable = self
            .unreadable
            .into_iter()
            .map(|error| (RejectReason::Pattern(error.to_string()), String::new()));
        rejected.extend(unreadable);
        // The networks of a range have one text.
        rejected.dedup();
        if !usable.is_empty() {
            return Ok(UsableAddresses { usable: merge(usable), rejected });
        }
        let whole = (RejectReason::NotSufficient, String::new());
        Err(rejected.into_iter().next().unwrap_or(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::address::PrefixPolicy;
    use crate::intel::formats::stix_pattern::read_pattern;

    /// Prefixes that may be used, and the names of the reasons against the others.
    fn check(found: PatternAddresses) -> Result<(Vec<String>, Vec<&'static str>), &'static str> {
        let policy = ReadPolicy {
            prefixes: PrefixPolicy::default(),
            min_confidence: None,
            now: jiff::Timestamp::UNIX_EPOCH,
            oldest: jiff::Timestamp::MIN,
        };
        let addresses = found.check(&policy).map_err(|(reason, _)| reason.name())?;
        let prefixes = addresses.usable.iter().map(|it| it.prefix.to_string()).collect();
        Ok((prefixes, addresses.rejected.iter().map(|(reason, _)| reason.name()).collect()))
    }

    #[test]
    fn each_address_of_a_pattern_is_used_or_has_a_reason() {
        let a = "ipv4-addr:value = '192.0.2.1'";
        let (unreadable, private) = ("pattern cannot be read", "private or special range");
        for (text, prefixes, reasons) in [
            (
                format!("{a} OR ipv4-addr:value = '192.0.2.300'"),
                &["192.0.2.1/32"][..],
                &[unreadable][..],
            ),
            (
                "ipv4-addr:value IN ('x', '192.0.2.1', '', '10.0.0.1')".to_owned(),
                &["192.0.2.1/32"],
                &[private, unreadable, unreadable],
            ),
            (
                format!("{a} OR network-traffic:dst_ref.value = 'c2.example'"),
                &["192.0.2.1/32"],
                &[],
            ),
            (
                format!("{a} OR ipv4-addr:value = '192.0.2.6-192.0.2.8'"),
                &["192.0.2.1/32", "192.0.2.6/31", "192.0.2.8/32"],
                &[],
            ),
            (
                "ipv6-addr:value = '2001:db8::1 - 2001:db8::2' AND network-traffic:dst_port = 443"
                    .to_owned(),
                &["2001:db8::1/128", "2001:db8::2/128"],
                &[],
            ),
            // Not two hosts, and no part of a range that is too wide.
            (
                format!("{a} OR ipv4-addr:value = '192.0.2.9-192.0.2.8'"),
                &["192.0.2.1/32"],
                &[unreadable],
            ),
            (
                format!("{a} OR ipv4-addr:value = '12.0.0.0-200.0.0.0'"),
                &["192.0.2.1/32"],
                &["prefix too short"],
            ),
        ] {
            let found = read_pattern(&format!("[{text}]")).unwrap();
            let (usable, rejected) = check(found).unwrap();
            assert_eq!(
                (usable, rejected),
                (prefixes.iter().map(|it| (*it).to_owned()).collect(), reasons.to_vec()),
                "{text}"
            );
        }
        for (text, reason) in [
            ("ipv4-addr:value = '10.0.0.1'", private),
            ("ipv4-addr:value = '10.0.0.1-10.0.0.9'", private),
            ("domain-name:value = 'c2.example'", "no address is sufficient alone"),
        ] {
            let found = read_pattern(&format!("[{text}]")).unwrap();
            assert_eq!(check(found), Err(reason), "{text}");
        }
    }

    #[test]
    fn values_of_a_parsed_pattern_are_addresses_or_have_a_reason() {
        let mut found = PatternAddresses::default();
        for value in ["192.0.2.1", "198.51.100.0-198.51.100.255", "192.0.2.7:443", "10.0.0.1"] {
            found.add(value);
        }
        let (usable, rejected) = check(found).unwrap();
        assert_eq!(usable, ["192.0.2.1/32", "198.51.100.0/24"]);
        assert_eq!(rejected, ["private or special range", "pattern cannot be read"]);
    }
}
