//! `Clause`: one alternative of a pattern, a conjunction of comparisons that one connection must
//! meet.
//!
//! A clause exists only while it can be sufficient. An alternative that compares other properties
//! than addresses and ports, or contradicts itself, has no clause.

use std::borrow::Cow;

use ipnet::IpNet;

use super::SufficientPrefix;
use super::ports::PortSet;
use crate::intel::indicator::Ports;

/// End of a connection that comparisons refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum FlowEnd {
    /// No comparison of an address.
    #[default]
    Unspecified,
    /// An address without a direction, which may be either end.
    Host,
    /// `dst_ref`.
    Destination,
    /// `src_ref`.
    Source,
}

impl FlowEnd {
    /// Returns the end that meets both; `None` for two different ends, since the remote end alone
    /// then does not suffice.
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

/// Address families, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Families(u8);

impl Families {
    pub(super) const NONE: Self = Self(0);
    const V4: Self = Self(1);
    const V6: Self = Self(2);
    const ALL: Self = Self(3);

    /// Adds the family of an object type.
    pub(super) const fn with(self, object_type: &str) -> Self {
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

/// An address or network, and its text in the pattern.
#[derive(Debug, Clone)]
pub(super) struct NamedPrefix<'a> {
    pub(super) prefix: IpNet,
    pub(super) entity: Cow<'a, str>,
}

/// See the module documentation. The default has no condition.
#[derive(Debug, Clone)]
pub(super) struct Clause<'a> {
    end: FlowEnd,
    /// Prefixes of which one must contain the address; `None` without such a comparison.
    inside: Option<Vec<NamedPrefix<'a>>>,
    /// Prefixes that must not contain the address.
    outside: Vec<IpNet>,
    families: Families,
    destination_ports: Option<PortSet>,
    source_ports: Option<PortSet>,
}

impl Default for Clause<'_> {
    fn default() -> Self {
        Self {
            end: FlowEnd::Unspecified,
            inside: None,
            outside: Vec::new(),
            families: Families::ALL,
            destination_ports: None,
            source_ports: None,
        }
    }
}

impl<'a> Clause<'a> {
    /// The address at `end` is inside one of `prefixes`.
    pub(super) fn inside(end: FlowEnd, prefixes: Vec<NamedPrefix<'a>>) -> Option<Self> {
        (!prefixes.is_empty()).then(|| Self { end, inside: Some(prefixes), ..Self::default() })
    }

    /// The address at `end` is outside all `prefixes`.
    pub(super) fn outside(end: FlowEnd, prefixes: Vec<IpNet>) -> Self {
        Self { end, outside: prefixes, ..Self::default() }
    }

    /// The address at `end` belongs to one of the families.
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

    /// Returns the conjunction of both; `None` if it is a contradiction.
    pub(super) fn join(&self, other: &Self) -> Option<Self> {
        let inside = match (&self.inside, &other.inside) {
            (prefixes, None) | (None, prefixes) => prefixes.clone(),
            (Some(left), Some(right)) => {
                let both = intersection(left, right);
                if both.is_empty() {
                    return None;
                }
                Some(both)
            }
        };
        Some(Self {
            end: self.end.join(other.end)?,
            inside,
            outside: self.outside.iter().chain(&other.outside).copied().collect(),
            families: Some(self.families.intersection(other.families))
                .filter(|it| *it != Families::NONE)?,
            destination_ports: common(
                self.destination_ports.as_ref(),
                other.destination_ports.as_ref(),
            )?,
            source_ports: common(self.source_ports.as_ref(), other.source_ports.as_ref())?,
        })
    }

    /// Returns only its conditions about ports.
    pub(super) fn ports_only(&self) -> Self {
        Self {
            destination_ports: self.destination_ports.clone(),
            source_ports: self.source_ports.clone(),
            ..Self::default()
        }
    }

    /// True if it compares an address.
    pub(super) const fn has_addresses(&self) -> bool {
        self.inside.is_some()
    }

    /// Returns the approximate number of steps of [`Self::join`].
    pub(super) fn cost(&self, other: &Self) -> usize {
        let inside = |it: &Self| it.inside.as_ref().map_or(0, Vec::len);
        let ports = |it: &Option<PortSet>| it.as_ref().map_or(0, PortSet::len);
        let rest = |it: &Self| {
            inside(it) + it.outside.len() + ports(&it.destination_ports) + ports(&it.source_ports)
        };
        1 + inside(self) * inside(other) + rest(self) + rest(other)
    }

    /// Returns the number of comparisons of [`Self::finish`].
    pub(super) fn cost_to_finish(&self) -> usize {
        self.inside.as_ref().map_or(0, Vec::len) * self.outside.len()
    }

    /// Adds the sufficient prefixes. The named end is the remote one. An address without a
    /// direction is taken for the destination, to which `dst_port` applies.
    pub(super) fn finish(self, found: &mut Vec<SufficientPrefix>) {
        let prefixes = self.inside.unwrap_or_default();
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
        // A prefix that is excluded in part is not sufficient.
        let is_free =
            |it: &IpNet| !self.outside.iter().any(|net| net.contains(it) || it.contains(net));
        let usable =
            prefixes.into_iter().filter(|it| self.families.has(&it.prefix) && is_free(&it.prefix));
        found.extend(usable.map(|it| SufficientPrefix {
            prefix: it.prefix,
            entity: it.entity.into_owned(),
            ports: ports.clone(),
        }));
    }
}

/// Returns the prefixes inside one of each list: the narrower of each nested pair.
fn intersection<'a>(left: &[NamedPrefix<'a>], right: &[NamedPrefix<'a>]) -> Vec<NamedPrefix<'a>> {
    let mut both = Vec::new();
    for a in left {
        for b in right {
            if b.prefix.contains(&a.prefix) {
                both.push(a.clone());
            } else if a.prefix.contains(&b.prefix) {
                both.push(b.clone());
            }
        }
    }
    both
}

/// Returns the ports that both allow; the outer `None` if there is no such port.
#[expect(clippy::option_option, reason = "an empty set differs from no comparison")]
fn common(a: Option<&PortSet>, b: Option<&PortSet>) -> Option<Option<PortSet>> {
    match (a, b) {
        (ports, None) | (None, ports) => Some(ports.cloned()),
        (Some(a), Some(b)) => {
            let both = a.intersection(b);
            (!both.is_empty()).then_some(Some(both))
        }
    }
}
