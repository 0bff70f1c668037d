//! `DnsAnswer`: parses DNS answers, each a response (a message of section 4 of
//! [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035#section-4)).
//!
//! The bytes are hostile. Any bytes result in an answer or an error, never in a panic. Names are in
//! the format of zone files (RFC 1035, section 5.1), where any byte but printable ASCII is `\DDD`.
//! They are in lower case, and no longer than a name of printable characters can be.

use std::fmt::Display;
use std::net::IpAddr;

use domain::base::message::RecordSection;
use domain::base::{Message, ParsedName, Rtype};
use domain::rdata::{A, Aaaa, Cname};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Maximum length of a name, characters: that of the longest name without escapes.
const NAME_MAX: usize = 253;
/// Maximum number of aliases that are followed.
const ALIASES_MAX: usize = 16;

/// Addresses that a name resolved to. The serde names are those of a line of `netsensor record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename = "NetsensorDnsAnswer", rename_all = "PascalCase")]
pub struct DnsAnswer {
    /// Time at which it was received.
    pub time_generated: Timestamp,
    /// Name in the question section.
    pub question: String,
    /// Name at the end of the alias chain (CNAME), which owns the addresses.
    pub canonical_name: String,
    /// Addresses, at least one; IPv4-mapped ones are IPv4.
    pub addresses: Vec<IpAddr>,
    /// Time to live, seconds: the minimum of all records.
    pub ttl_seconds: u32,
}

/// Why a message has no [`DnsAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsAnswerError {
    /// The message cannot be parsed up to its answers.
    #[error("malformed")]
    Malformed,
    /// The message has no address: its question has another type, or its alias chain leads nowhere.
    #[error("no address")]
    NoAddress,
    /// A name in the message is longer than names can be.
    #[error("name too long")]
    NameTooLong,
}

impl DnsAnswer {
    /// Value of `Type` in a line of `netsensor record`.
    pub const TYPE: &str = "NetsensorDnsAnswer";

    /// Parses a message that was received at `time`.
    ///
    /// Of a truncated or malformed message, the records before the first incomplete one are used.
    /// Only the addresses that the question leads to, through its aliases, are used: a server
    /// cannot add others.
    ///
    /// ```
    /// # use sensor_user::pipeline::enrich::{DnsAnswer, DnsAnswerError};
    /// let time = "2026-03-01T12:00:00Z".parse()?;
    /// // Header: id, flags (response), one question, one answer. Question: web.example, A, IN.
    /// let mut message = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03Web\x07example\0\0\x01\0\x01".to_vec();
    /// // Answer: the name at offset 12, A, IN, TTL 60 s, 4 bytes.
    /// message.extend(*b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07");
    ///
    /// let answer = DnsAnswer::parse(&message, time)?;
    /// assert_eq!(answer.question, "web.example");
    /// assert_eq!(answer.canonical_name, "web.example");
    /// assert_eq!(answer.addresses, [std::net::IpAddr::from([203, 0, 113, 7])]);
    /// assert_eq!(answer.ttl_seconds, 60);
    ///
    /// let truncated = DnsAnswer::parse(&message[..message.len() - 1], time);
    /// assert_eq!(truncated, Err(DnsAnswerError::NoAddress));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(message: &[u8], time: Timestamp) -> Result<Self, DnsAnswerError> {
        let message = Message::from_octets(message).map_err(|_short| DnsAnswerError::Malformed)?;
        let question = message.first_question().ok_or(DnsAnswerError::Malformed)?;
        let question = name(question.qname())?;
        let section = message.answer().map_err(|_malformed| DnsAnswerError::Malformed)?;
        let records = address_records(section);
        let mut canonical = question.as_str();
        let mut ttl_seconds = u32::MAX;
        for _alias in 0..ALIASES_MAX {
            let Some((target, ttl)) = alias(&records, canonical) else { break };
            (canonical, ttl_seconds) = (target, ttl_seconds.min(ttl));
        }
        let mut addresses = Vec::new();
        for record in records.iter().filter(|record| record.owner == canonical) {
            if let RecordData::Address(address) = record.data
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
        Ok(Self { time_generated: time, question, canonical_name, addresses, ttl_seconds })
    }
}

struct AddressRecord {
    owner: String,
    /// Time to live, seconds.
    ttl: u32,
    data: RecordData,
}

enum RecordData {
    Alias(String),
    Address(IpAddr),
}

/// Returns the records of types A, AAAA and CNAME before the first malformed record. (A message has
/// room for some hundred.)
fn address_records(section: RecordSection<'_, &[u8]>) -> Vec<AddressRecord> {
    let mut records = Vec::new();
    for record in section {
        let Ok(record) = record else { break };
        let data = match record.rtype() {
            Rtype::A => record.to_record::<A>().map(|it| it.map(|it| address(it.data().addr()))),
            Rtype::AAAA => {
                record.to_record::<Aaaa>().map(|it| it.map(|it| address(it.data().addr())))
            }
            Rtype::CNAME => record
                .to_record::<Cname<ParsedName<_>>>()
                .map(|it| it.and_then(|it| name(it.data().cname()).ok()).map(RecordData::Alias)),
            _ => continue,
        };
        let Ok(data) = data else { break };
        if let (Some(data), Ok(owner)) = (data, name(record.owner())) {
            records.push(AddressRecord { owner, ttl: record.ttl().as_secs(), data });
        }
    }
    records
}

fn address(address: impl Into<IpAddr>) -> RecordData {
    RecordData::Address(address.into().to_canonical())
}

/// Target and time to live of the alias `owner`.
fn alias<'r>(records: &'r [AddressRecord], owner: &str) -> Option<(&'r str, u32)> {
    records.iter().filter(|record| record.owner == owner).find_map(|record| match &record.data {
        RecordData::Alias(target) => Some((target.as_str(), record.ttl)),
        RecordData::Address(_) => None,
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
