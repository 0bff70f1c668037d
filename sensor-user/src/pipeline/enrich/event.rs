//! `Event`: a record with its process and its time, the input of the aggregate stage.

use std::sync::Arc;

use jiff::Timestamp;

use super::dns_answer::DnsAnswer;
use super::process::Process;
use crate::pipeline::decode::{Tcp, TcpLatency, Udp};

/// A record of a socket with its process, or a DNS answer.
#[derive(Debug, Clone)]
pub enum Event {
    /// Event of a TCP socket.
    Tcp(TcpEvent),
    /// Response latency of a TCP socket whose close record comes next.
    Latency(Box<TcpLatency>),
    /// Event of a UDP flow or socket.
    Udp(UdpEvent),
    /// Addresses that a name resolved to.
    Dns(DnsAnswer),
}

/// A TCP record with its time and its process.
#[derive(Debug, Clone)]
pub struct TcpEvent {
    /// Time of the record, UTC.
    pub time: Timestamp,
    /// Decoded record of the kernel.
    pub tcp: Box<Tcp>,
    /// Process of a connect, owner or listen record, or the one that closed a connection which no
    /// process had used; otherwise `None`.
    pub process: Option<Arc<Process>>,
}

/// A UDP record with its process.
#[derive(Debug, Clone)]
pub struct UdpEvent {
    /// Decoded record of the kernel.
    pub udp: Box<Udp>,
    /// Process of the record; `None` if it has none.
    pub process: Option<Arc<Process>>,
}
