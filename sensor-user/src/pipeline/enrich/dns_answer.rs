//! `DnsAnswer`: what a name resolved to, out of the bytes of a DNS message.
//!
//! The bytes are hostile. Whatever they are, this gives an answer or a reason, and never panics;
//! names come out in the form of zone files (RFC 1035, section 5.1), where anything but printable
//! ASCII is `\DDD`, in lower case, and no longer than a name of printable characters can be.

use std::fmt::Display;
use std::net::IpAddr;

use domain::base::message::RecordSection;
use domain::base::{Message, ParsedName, Rtype};
use domain::rdata::{A, Aaaa, Cname};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Characters of a name at most: the longest without escapes has so many.
const NAME_MAX: usize = 253;
/// Aliases that are followed at most.
const ALIASES_MAX: usize = 16;

/// Addresses that a name resolved to. The serde names are those of a line of `netsensor record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename = "NetsensorDnsAnswer", rename_all = "PascalCase")]
pub struct DnsAnswer {
    /// When it was received.
    pub time_generated: Timestamp,
    /// The name that was asked for.
    pub question: String,
    /// The name behind its aliases (CNAME): that of the addresses.
    pub canonical_name: String,
    /// At least one; IPv4-mapped ones are IPv4.
    pub addresses: Vec<IpAddr>,
    /// Seconds for which all of it may be kept: the least of its records.
    pub ttl_seconds: u32,
}

impl DnsAnswer {
    /// `Type` of its line.
    pub const TYPE: &str = "NetsensorDnsAnswer";
}

/// Why a message is no [`DnsAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsAnswerError {
    /// It cannot be parsed up to its answers.
    #[error("malformed")]
    Malformed,
    /// It names no address: it is about something else, or its chain of aliases leads nowhere.
    #[error("no address")]
    NoAddress,
    /// A name of it is longer than names are.
    #[error("name too long")]
    NameTooLong,
}

/// Reads a message that was received at `time`. Of one that is cut, or breaks off somewhere, the
/// records before that place count. Only those addresses count to which the question leads, by way
/// of its aliases: a server cannot name others in passing.
pub(super) fn answer(message: &[u8], time: Timestamp) -> Result<DnsAnswer, DnsAnswerError> {
    let message = Message::from_octets(message).map_err(|_short| DnsAnswerError::Malformed)?;
    let question = message.first_question().ok_or(DnsAnswerError::Malformed)?;
    let question = name(question.qname())?;
    let records = message.answer().map_err(|_broken| DnsAnswerError::Malformed)?;
    let records = read(records);
    let mut canonical = question.as_str();
    let mut ttl_seconds = u32::MAX;
    for _alias in 0..ALIASES_MAX {
        let Some((target, ttl)) = alias(&records, canonical) else { break };
        (canonical, ttl_seconds) = (target, ttl_seconds.min(ttl));
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|record| record.owner == canonical) {
        if let Data::Address(address) = record.data
            && !addresses.contains(&address)
        {
            addresses.push(address);
            ttl_seconds = ttl_seconds.min(record.ttl);
        }
    }
    if addresses.is_empty() {
        return Err(DnsAnswerError::NoAddress);
    }
    let canonical_name = canonical.to_owned();
    Ok(DnsAnswer { time_generated: time, question, canonical_name, addresses, ttl_seconds })
}

struct Entry {
    owner: String,
    /// Seconds.
    ttl: u32,
    data: Data,
}

enum Data {
    Alias(String),
    Address(IpAddr),
}

/// The records of the three kinds that lead from a name to an address, up to the first that is
/// broken. (There are at most as many as a message has room for: a hundred.)
fn read(section: RecordSection<'_, &[u8]>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for record in section {
        let Ok(record) = record else { break };
        let data = match record.rtype() {
            Rtype::A => record.to_record::<A>().map(|it| it.map(|it| address(it.data().addr()))),
            Rtype::AAAA => {
                record.to_record::<Aaaa>().map(|it| it.map(|it| address(it.data().addr())))
            }
            Rtype::CNAME => record
                .to_record::<Cname<ParsedName<_>>>()
                .map(|it| it.and_then(|it| name(it.data().cname()).ok()).map(Data::Alias)),
            _ => continue,
        };
        let Ok(data) = data else { break };
        if let (Some(data), Ok(owner)) = (data, name(record.owner())) {
            entries.push(Entry { owner, ttl: record.ttl().as_secs(), data });
        }
    }
    entries
}

fn address(address: impl Into<IpAddr>) -> Data {
    Data::Address(address.into().to_canonical())
}

/// What `owner` is an alias of, and for how many seconds.
fn alias<'e>(entries: &'e [Entry], owner: &str) -> Option<(&'e str, u32)> {
    entries.iter().filter(|entry| entry.owner == owner).find_map(|entry| match &entry.data {
        Data::Alias(target) => Some((target.as_str(), entry.ttl)),
        Data::Address(_) => None,
    })
}

fn name(name: impl Display) -> Result<String, DnsAnswerError> {
    let mut text = name.to_string();
    if text.len() > NAME_MAX {
        return Err(DnsAnswerError::NameTooLong);
    }
    text.make_ascii_lowercase();
    Ok(text)
}

#[cfg(test)]
#[path = "dns_answer_tests.rs"]
mod tests;
