//! One comparison: `path NOT? operator constant`, and its clause.

use std::borrow::Cow;

use ipnet::IpNet;

use super::clause::{Clause, Families, FlowEnd, NamedPrefix};
use super::lexer::{ComparisonSign, Token};
use super::parser::PatternParser;
use super::ports::PortSet;
use super::{PatternError, PatternErrorKind};
use crate::intel::address::parse_prefix;
use crate::intel::formats::addresses::parse_value;
use crate::intel::formats::endpoint::Endpoint;

/// Property that a path refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathSubject {
    Address(FlowEnd),
    /// The value of an address, a domain name or a MAC address that an object refers to.
    Object(FlowEnd),
    /// The object type of an address.
    Type(FlowEnd),
    /// A port; true for the destination's.
    Port(bool),
    /// A protocol of the flow, which neither selects nor excludes a connection.
    Protocol,
    /// Any other property, which does not depend on the remote end.
    Other,
}

/// Operator of a comparison, without `NOT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Sign(ComparisonSign),
    In,
    Subset,
    /// `LIKE`, `MATCHES`, `ISSUPERSET`.
    Other,
}

/// A constant and its offset.
type Literal<'a> = (usize, Token<'a>);

impl<'a> PatternParser<'a> {
    /// Parses `path NOT? operator constant`.
    pub(super) fn single_comparison(&mut self) -> Result<Option<Clause<'a>>, PatternError> {
        let subject = self.path()?;
        let is_negated = self.take_word("NOT")?;
        let operator = self.operator()?;
        let literals = self.literals(operator)?;
        if literals.is_empty() && subject != PathSubject::Other {
            // No value is in an empty set, and every value is outside of it.
            return Ok(is_negated.then(Clause::default));
        }
        Ok(self.clause(subject, operator, is_negated, literals))
    }

    fn clause(
        &mut self,
        subject: PathSubject,
        operator: Operator,
        is_negated: bool,
        literals: Vec<Literal<'a>>,
    ) -> Option<Clause<'a>> {
        // True if the value must be one of the literals, false if it must be none of them.
        let is_one_of = match operator {
            Operator::Sign(ComparisonSign::Equal) | Operator::In => Some(!is_negated),
            Operator::Sign(ComparisonSign::NotEqual) => Some(is_negated),
            _ => None,
        };
        match (subject, is_one_of) {
            (PathSubject::Address(end) | PathSubject::Object(end), _) => {
                let is_inside =
                    is_one_of.or_else(|| (operator == Operator::Subset).then_some(!is_negated));
                if is_inside? {
                    self.record_unreadable(subject, &literals);
                }
                addresses(end, is_inside?, literals)
            }
            (PathSubject::Type(end), Some(is_one_of)) => {
                let named = literals.iter().fold(Families::NONE, |families, it| match &it.1 {
                    Token::Text(text) => families.with(text),
                    _ => families,
                });
                Clause::of_family(end, if is_one_of { named } else { named.complement() })
            }
            (PathSubject::Port(is_destination), _) => {
                Clause::with_ports(is_destination, ports(operator, is_negated, &literals)?)
            }
            (PathSubject::Protocol, _) => (!is_negated
                && operator != Operator::Sign(ComparisonSign::NotEqual))
            .then(Clause::default),
            (PathSubject::Type(_), None) | (PathSubject::Other, _) => None,
        }
    }

    /// Records the texts that should be addresses and are none. A reference may also be to a domain name
    /// or a MAC address, which are not matched.
    fn record_unreadable(&mut self, subject: PathSubject, literals: &[Literal<'a>]) {
        let is_object = matches!(subject, PathSubject::Object(_));
        for (at, literal) in literals {
            let Token::Text(entity) = literal else { continue };
            let text = entity.trim();
            if networks(text).is_empty() && !(is_object && is_name(text)) {
                self.unreadable.push(not_an_address(*at, entity));
            }
        }
    }

    /// Parses a path, `type:property.property[index]`.
    pub(super) fn path(&mut self) -> Result<PathSubject, PatternError> {
        const EXPECTED: &str = "a path such as ipv4-addr:value";
        let object_type = match self.advance()? {
            (_, Token::Word(word)) => Cow::Borrowed(word),
            (_, Token::Text(text)) => text,
            (at, token) => return Err(self.unexpected_at(at, &token, EXPECTED)),
        };
        self.sign(b':', EXPECTED)?;
        let mut parts: [Cow<'a, str>; 2] = Default::default();
        let (mut count, mut is_indexed) = (0, false);
        loop {
            let part = match self.advance()? {
                (_, Token::Word(word)) => Cow::Borrowed(word),
                (_, Token::Text(text)) => text,
                (at, token) => return Err(self.unexpected_at(at, &token, EXPECTED)),
            };
            if let Some(slot) = parts.get_mut(count) {
                *slot = part;
            }
            count += 1;
            while self.token == Token::Sign(b'[') {
                is_indexed = true;
                self.advance()?;
                match self.advance()? {
                    (_, Token::Sign(b'*') | Token::Number(_) | Token::Text(_)) => {}
                    (at, token) => return Err(self.unexpected_at(at, &token, "an index, or *")),
                }
                self.sign(b']', "]")?;
            }
            if self.token != Token::Sign(b'.') {
                break;
            }
            self.advance()?;
        }
        if count > parts.len() {
            return Ok(PathSubject::Other);
        }
        let [first, second] = &parts;
        Ok(subject(&object_type, first, second, is_indexed))
    }

    fn operator(&mut self) -> Result<Operator, PatternError> {
        const WORDS: [(&str, Operator); 5] = [
            ("IN", Operator::In),
            ("ISSUBSET", Operator::Subset),
            ("ISSUPERSET", Operator::Other),
            ("LIKE", Operator::Other),
            ("MATCHES", Operator::Other),
        ];
        let operator = match &self.token {
            Token::Compare(compare) => Some(Operator::Sign(*compare)),
            Token::Word(word) => {
                let known = WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
                known.map(|(_, operator)| *operator)
            }
            _ => None,
        };
        let operator = operator.ok_or_else(|| self.unexpected("an operator such as = or IN"))?;
        self.advance()?;
        Ok(operator)
    }

    fn literals(&mut self, operator: Operator) -> Result<Vec<Literal<'a>>, PatternError> {
        if operator != Operator::In {
            return Ok(vec![self.literal()?]);
        }
        self.sign(b'(', "(")?;
        // The grammar requires a constant, the reference implementation (stix2-patterns 2.1.2) does not.
        if self.token == Token::Sign(b')') {
            self.advance()?;
            return Ok(Vec::new());
        }
        let mut literals = vec![self.literal()?];
        while self.token == Token::Sign(b',') {
            self.advance()?;
            literals.push(self.literal()?);
        }
        self.sign(b')', ", or )")?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<Literal<'a>, PatternError> {
        match self.advance()? {
            (at, token @ (Token::Text(_) | Token::Number(_) | Token::Constant)) => Ok((at, token)),
            (at, Token::Word(word))
                if word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false") =>
            {
                Ok((at, Token::Constant))
            }
            (at, token) => Err(self.unexpected_at(at, &token, "a constant such as 'text'")),
        }
    }
}

/// Returns the alternative of an address inside or outside these.
fn addresses(end: FlowEnd, is_inside: bool, literals: Vec<Literal<'_>>) -> Option<Clause<'_>> {
    let named = literals.into_iter().flat_map(|(_, literal)| {
        let entity = if let Token::Text(text) = literal { text } else { Cow::default() };
        let named = |prefix| NamedPrefix { prefix, entity: entity.clone() };
        networks(entity.trim()).into_iter().map(named).collect::<Vec<_>>()
    });
    if is_inside {
        return Clause::inside(end, named.collect());
    }
    Some(Clause::outside(end, named.map(|it| it.prefix).collect()))
}

/// Error for the text of an address at offset `at`.
pub(super) fn not_an_address(at: usize, text: &str) -> PatternError {
    let start = text.chars().take(100).collect();
    PatternError { at, kind: PatternErrorKind::NotAnAddress(start) }
}

/// Returns the network that a text names, or those of a range of addresses; none for another text.
pub(super) fn networks(text: &str) -> Vec<IpNet> {
    if let Some(prefix) = parse_prefix(text) {
        return vec![prefix];
    }
    // A single address with a port, or in a URL, is none.
    match parse_value(text).as_deref() {
        Ok([range]) if Endpoint::parse(text).is_err() => {
            range.endpoints().map(|it| it.prefix).collect()
        }
        _ => Vec::new(),
    }
}

/// True for a domain name, or a MAC address as STIX writes it. A name ends in a label that is not a number, unlike
/// an address with a typing error.
fn is_name(text: &str) -> bool {
    let is_mac =
        text.len() == 17 && text.split(':').filter(|it| it.len() == 2 && is_hex(it)).count() == 6;
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_domain = last.chars().any(char::is_alphabetic)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    is_mac || is_domain
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the property of a path, by sections 6.7, 6.8, 6.4 and 6.12 of STIX 2.1.
fn subject(object_type: &str, first: &str, second: &str, is_indexed: bool) -> PathSubject {
    match (object_type, first, second, is_indexed) {
        ("ipv4-addr" | "ipv6-addr", "value", "", false) => PathSubject::Address(FlowEnd::Host),
        ("domain-name", "resolves_to_refs", "value", true) => PathSubject::Object(FlowEnd::Host),
        ("network-traffic", "dst_ref", "value", false) => PathSubject::Object(FlowEnd::Destination),
        ("network-traffic", "src_ref", "value", false) => PathSubject::Object(FlowEnd::Source),
        ("network-traffic", "dst_ref", "type", false) => PathSubject::Type(FlowEnd::Destination),
        ("network-traffic", "src_ref", "type", false) => PathSubject::Type(FlowEnd::Source),
        ("network-traffic", "dst_port", "", false) => PathSubject::Port(true),
        ("network-traffic", "src_port", "", false) => PathSubject::Port(false),
        ("network-traffic", "protocols", "", true) => PathSubject::Protocol,
        _ => PathSubject::Other,
    }
}

/// Returns the ports that a comparison allows; `None` if it does not compare numbers. Some feeds
/// quote the numbers (`dst_port = '443'`, as MISP does).
fn ports(operator: Operator, is_negated: bool, literals: &[Literal<'_>]) -> Option<PortSet> {
    let number = |literal: &Literal<'_>| -> Option<i64> {
        match &literal.1 {
            Token::Text(text) => text.trim().parse().ok(),
            Token::Number(text) => text.parse().ok(),
            _ => None,
        }
    };
    let numbers: Vec<i64> = literals.iter().map(number).collect::<Option<_>>()?;
    let set = match (operator, numbers.as_slice()) {
        (Operator::Sign(compare), [number]) => PortSet::from_comparison(compare, *number),
        (Operator::In, numbers) => PortSet::from_ports(numbers.iter().copied()),
        _ => return None,
    };
    Some(if is_negated { set.complement() } else { set })
}
