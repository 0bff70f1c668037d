//! Messages as servers send them, and hostile ones.

use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::{AnswerBuilder, MessageBuilder};
use domain::base::{Name, Ttl};
use domain::rdata::Txt;
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn of(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

/// A response to `question`, with the answer records that `fill` adds.
fn message(question: &str, fill: impl FnOnce(&mut AnswerBuilder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_rcode(Rcode::NOERROR);
    builder.push((of(question), Rtype::A)).unwrap();
    let mut builder = builder.answer();
    fill(&mut builder);
    builder.finish()
}

fn alias(builder: &mut AnswerBuilder<Vec<u8>>, owner: &str, target: &str, ttl: u32) {
    let data = Cname::new(of(target));
    builder.push((of(owner), Class::IN, Ttl::from_secs(ttl), data)).unwrap();
}

fn v4(builder: &mut AnswerBuilder<Vec<u8>>, owner: &str, address: [u8; 4], ttl: u32) {
    builder.push((of(owner), Class::IN, Ttl::from_secs(ttl), A::new(address.into()))).unwrap();
}

/// `www.evil.example`, an alias of an alias of two addresses.
fn chain() -> Vec<u8> {
    message("WWW.evil.example", |builder| {
        alias(builder, "www.EVIL.example", "edge.example", 300);
        alias(builder, "edge.example", "a1.cdn.example", 20);
        v4(builder, "a1.cdn.example", [203, 0, 113, 7], 60);
        v4(builder, "a1.cdn.example", [203, 0, 113, 8], 60);
    })
}

fn whole() -> DnsAnswer {
    DnsAnswer {
        time_generated: at(7),
        question: "www.evil.example".to_owned(),
        canonical_name: "a1.cdn.example".to_owned(),
        addresses: vec![[203, 0, 113, 7].into(), [203, 0, 113, 8].into()],
        ttl_seconds: 20,
    }
}

#[test]
fn aliases_are_followed_to_the_addresses() {
    assert_eq!(DnsAnswer::parse(&chain(), at(7)), Ok(whole()));
    let v6 = message("v6.example", |builder| {
        for address in ["2001:db8::7", "::ffff:203.0.113.9"] {
            let data = Aaaa::new(address.parse().unwrap());
            builder.push((of("v6.example"), Class::IN, Ttl::from_secs(5), data)).unwrap();
        }
    });
    let read = DnsAnswer::parse(&v6, at(7)).unwrap();
    assert_eq!((&*read.question, &*read.canonical_name), ("v6.example", "v6.example"));
    let expected: [IpAddr; 2] = ["2001:db8::7".parse().unwrap(), [203, 0, 113, 9].into()];
    assert_eq!(read.addresses, expected);
}

#[test]
fn complete_records_of_a_truncated_message_count() {
    let message = chain();
    let truncated = &message[..message.len() - 1];
    let one = DnsAnswer { addresses: vec![[203, 0, 113, 7].into()], ..whole() };
    assert_eq!(DnsAnswer::parse(truncated, at(7)), Ok(one));
    assert_eq!(DnsAnswer::parse(&message[..60], at(7)), Err(DnsAnswerError::NoAddress));
}

#[test]
fn a_server_cannot_add_names_that_were_not_queried() {
    let other = message("a.example", |builder| {
        v4(builder, "bank.example", [203, 0, 113, 7], 60);
        alias(builder, "b.example", "c.example", 60);
        v4(builder, "c.example", [203, 0, 113, 8], 60);
    });
    assert_eq!(DnsAnswer::parse(&other, at(0)), Err(DnsAnswerError::NoAddress));
}

#[test]
fn hostile_messages_are_rejected() {
    let looped = message("a.example", |builder| {
        alias(builder, "a.example", "b.example", 60);
        alias(builder, "b.example", "a.example", 60);
    });
    assert_eq!(DnsAnswer::parse(&looped, at(0)), Err(DnsAnswerError::NoAddress));
    let long = format!("{0}.{0}.{0}.{0}", "\\001".repeat(60));
    let long = message(&long, |_| {});
    assert_eq!(DnsAnswer::parse(&long, at(0)), Err(DnsAnswerError::NameTooLong));
    // The question's name points at itself, and forward.
    for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
        let mut bytes = vec![0, 1, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        bytes.extend(pointer);
        bytes.extend([0, 1, 0, 1]);
        assert_eq!(DnsAnswer::parse(&bytes, at(0)), Err(DnsAnswerError::Malformed), "{pointer:?}");
    }
    let text = message("a.example", |builder| {
        let data = Txt::<Vec<u8>>::build_from_slice(b"v=1").unwrap();
        builder.push((of("a.example"), Class::IN, Ttl::from_secs(1), data)).unwrap();
    });
    assert_eq!(DnsAnswer::parse(&text, at(0)), Err(DnsAnswerError::NoAddress));
}

#[test]
fn a_name_is_printable() {
    let message = message("\\027[2J\\010\\\"\\195\\164.Example", |builder| {
        v4(builder, "\\027[2J\\010\\\"\\195\\164.Example", [203, 0, 113, 7], 60);
    });
    let read = DnsAnswer::parse(&message, at(0)).unwrap();
    assert!(read.question.bytes().all(|byte| byte.is_ascii_graphic()), "{}", read.question);
    assert_eq!(read.question, read.question.to_ascii_lowercase());
    let line = serde_json::to_string(&read).unwrap();
    assert!(line.starts_with(r#"{"Type":"NetsensorDnsAnswer","TimeGenerated":"#), "{line}");
    assert_eq!(serde_json::from_str::<DnsAnswer>(&line).unwrap(), read);
}

proptest! {
    #[test]
    fn any_bytes_result_in_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let _either = DnsAnswer::parse(&bytes, at(0));
    }

    #[test]
    fn a_damaged_message_results_in_a_bounded_answer_or_an_error(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = chain();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        if let Ok(read) = DnsAnswer::parse(&bytes, at(0)) {
            prop_assert!(!read.addresses.is_empty() && read.addresses.len() <= 100);
            for name in [&read.question, &read.canonical_name] {
                prop_assert!(name.len() <= NAME_MAX);
                prop_assert!(name.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}");
            }
        }
    }
}
