//! `Protocol`: the transport protocol of a connection.

use serde::{Deserialize, Serialize};

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, including the subflows of MPTCP.
    Tcp,
    /// UDP, one flow for each socket and remote end.
    Udp,
}

impl Protocol {
    /// Value of the `Protocol` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Number of the protocol in an IP header (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Protocol of a value of the `Protocol` column.
    pub fn from_column(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|it| it.as_str() == name)
    }
}
