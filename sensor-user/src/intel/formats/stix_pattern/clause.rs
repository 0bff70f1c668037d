//! `Clause`: one alternative of a pattern, all of whose comparisons must hold for one connection.
//!
//! There is a clause only as long as it can be sufficient: what can never be, because it asks for
//! something else than addresses and ports or contradicts itself, is no clause at all.

use std::borrow::Cow;

use ipnet::IpNet;

use super::SufficientPrefix;
use super::ports::PortSet;
use crate::intel::indicator::Ports;

/// Which end of a connection comparisons are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum FlowEnd {
    /// Nothing was said about an address.
    #[default]
    Unspecified,
    /// An address by itself, which is either end.
    Host,
    /// `dst_ref`.
    Destination,
    /// `src_ref`.
    Source,
}

impl FlowEnd {
    /// One end that is both; none where the two are the two ends, as nothing is then decided by the
    /// remote one alone.
    const fn join(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Unspecified, end) | (end, Self::Unspecified) => Some(end),
            (Self::Host, end) | (end, Self::Host) => Some(end),
            (Self::Destination, Self::Destination) => Some(Self::Destination),
            (Self::Source, Self::Source) => Some(Self::Source),
            _ => None,
        }
    }
}

/// Families of addresses, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Families(u8);

impl Families {
    pub(super) const NONE: Self = Self(0);
    const V4: Self = Self(1);
    const V6: Self = Self(2);
    const ALL: Self = Self(3);

    /// Those of an object type.
    pub(super) const fn named(self, object_type: &str) -> Self {
        let one = match object_type.as_bytes() {
            b"ipv4-addr" => Self::V4,
            b"ipv6-addr" => Self::V6,
            _ => Self::NONE,
        };
        Self(self.0 | one.0)
    }

    pub(super) const fn complement(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }

    const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn has(self, prefix: &IpNet) -> bool {
        let one = match prefix {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        };
        self.0 & one.0 != 0
    }
}

/// An address or network and its text.
#[derive(Debug, Clone)]
pub(super) struct NamedPrefix<'a> {
    pub(super) prefix: IpNet,
    pub(super) entity: Cow<'a, str>,
}

/// See the module. By itself it asks for nothing.
#[derive(Debug, Clone)]
pub(super) struct Clause<'a> {
    end: FlowEnd,
    /// One of these must contain the address; `None` where no comparison names any.
    named: Option<Vec<NamedPrefix<'a>>>,
    /// None of these may contain it.
    barred: Vec<IpNet>,
    families: Families,
    destination_ports: Option<PortSet>,
    source_ports: Option<PortSet>,
}

impl Default for Clause<'_> {
    fn default() -> Self {
        Self {
            end: FlowEnd::Unspecified,
            named: None,
            barred: Vec::new(),
            families: Families::ALL,
            destination_ports: None,
            source_ports: None,
        }
    }
}

impl<'a> Clause<'a> {
    /// The address at `end` is inside one of `named`.
    pub(super) fn inside(end: FlowEnd, named: Vec<NamedPrefix<'a>>) -> Option<Self> {
        (!named.is_empty()).then(|| Self { end, named: Some(named), ..Self::default() })
    }

    /// The address at `end` is inside none of `barred`.
    pub(super) fn outside(end: FlowEnd, barred: Vec<IpNet>) -> Self {
        Self { end, barred, ..Self::default() }
    }

    /// The address at `end` is of one of the families.
    pub(super) fn of_family(end: FlowEnd, families: Families) -> Option<Self> {
        (families != Families::NONE).then(|| Self { end, families, ..Self::default() })
    }

    /// The port at an end of the flow is one of `ports`.
    pub(super) fn with_ports(is_destination: bool, ports: PortSet) -> Option<Self> {
        if ports.is_empty() {
            return None;
        }
        Some(if is_destination {
            Self { destination_ports: Some(ports), ..Self::default() }
        } else {
            Self { source_ports: Some(ports), ..Self::default() }
        })
    }

    /// Both must hold; none where they never do together.
    pub(super) fn join(&self, other: &Self) -> Option<Self> {
        let named = match (&self.named, &other.named) {
            (named, None) | (None, named) => named.clone(),
            (Some(ours), Some(theirs)) => {
                let both = intersection(ours, theirs);
                if both.is_empty() {
                    return None;
                }
                Some(both)
            }
        };
        Some(Self {
            end: self.end.join(other.end)?,
            named,
            barred: self.barred.iter().chain(&other.barred).copied().collect(),
            families: Some(self.families.intersection(other.families))
                .filter(|it| *it != Families::NONE)?,
            destination_ports: common(
                self.destination_ports.as_ref(),
                other.destination_ports.as_ref(),
            )?,
            source_ports: common(self.source_ports.as_ref(), other.source_ports.as_ref())?,
        })
    }

    /// About how much work [`Self::join`] is.
    pub(super) fn cost(&self, other: &Self) -> usize {
        let named = |it: &Self| it.named.as_ref().map_or(0, Vec::len);
        let ports = |it: &Option<PortSet>| it.as_ref().map_or(0, PortSet::len);
        let rest = |it: &Self| {
            named(it) + it.barred.len() + ports(&it.destination_ports) + ports(&it.source_ports)
        };
        1 + named(self) * named(other) + rest(self) + rest(other)
    }

    /// How many pairs [`Self::finish`] compares.
    pub(super) fn cost_to_finish(&self) -> usize {
        self.named.as_ref().map_or(0, Vec::len) * self.barred.len()
    }

    /// Adds what is sufficient. The end that the pattern names is the remote one. An address by
    /// itself is taken for the destination that its ports speak of.
    pub(super) fn finish(self, found: &mut Vec<SufficientPrefix>) {
        let named = self.named.unwrap_or_default();
        let qualifier =
            |ports: &Option<PortSet>| ports.as_ref().map(PortSet::qualifier).unwrap_or_default();
        let destination = qualifier(&self.destination_ports);
        let source = qualifier(&self.source_ports);
        let ports = match self.end {
            FlowEnd::Source => Ports { remote: source, local: destination },
            FlowEnd::Unspecified | FlowEnd::Host | FlowEnd::Destination => {
                Ports { remote: destination, local: source }
            }
        };
        // What is only partly barred is not sufficient.
        let is_free =
            |it: &IpNet| !self.barred.iter().any(|bar| bar.contains(it) || it.contains(bar));
        let usable =
            named.into_iter().filter(|it| self.families.has(&it.prefix) && is_free(&it.prefix));
        found.extend(usable.map(|it| SufficientPrefix {
            prefix: it.prefix,
            entity: it.entity.into_owned(),
            ports: ports.clone(),
        }));
    }
}

/// What is inside one of each; the narrower of two is in both.
fn intersection<'a>(ours: &[NamedPrefix<'a>], theirs: &[NamedPrefix<'a>]) -> Vec<NamedPrefix<'a>> {
    let mut both = Vec::new();
    for a in ours {
        for b in theirs {
            if b.prefix.contains(&a.prefix) {
                both.push(a.clone());
            } else if a.prefix.contains(&b.prefix) {
                both.push(b.clone());
            }
        }
    }
    both
}

/// Ports that both allow; the outer `None` where there is no such port.
#[expect(clippy::option_option, reason = "none at all, and no comparison, are two things")]
fn common(a: Option<&PortSet>, b: Option<&PortSet>) -> Option<Option<PortSet>> {
    match (a, b) {
        (ports, None) | (None, ports) => Some(ports.cloned()),
        (Some(a), Some(b)) => {
            let both = a.intersection(b);
            (!both.is_empty()).then_some(Some(both))
        }
    }
}
