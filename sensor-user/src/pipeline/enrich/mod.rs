//! Enrich: Record to Event. Puts the process and the wall clock to what the kernel told.
//!
//! Process facts come from exec, fork and exit records, in ring order, so that they are there
//! before the first connection of a process that lived a millisecond. /proc is read once at start
//! for what ran before, and later only for a process of which no record told (counted).

pub mod proc_worker;

mod cgroups;
mod country_names;
mod dns_answer;
mod dns_cache;
mod geoip;
mod proc_fs;
mod process;
mod process_table;
mod socket_owners;
mod users;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sensor_ebpf::record::UdpOwnerSource;

use super::decode::{Dns, Exec, Record, Task, Tcp, TcpKind, TcpLatency, Udp, UdpFlow, UdpOwner};
use crate::base::clock::BootClock;
use crate::base::counters::Stats;

pub use dns_answer::{DnsAnswer, DnsAnswerError};
pub use dns_cache::{DnsCache, DnsNames};
pub use geoip::{GeoIpDatabase, GeoIpError, GeoLocation};
pub use proc_fs::{ProcFacts, ProcFolder, ProcSource};
pub use process::Process;
pub use process_table::ProcessTable;
pub use socket_owners::{SocketOwner, SocketOwners};

/// A record about a socket with its process, or what a name resolved to.
#[derive(Debug, Clone)]
pub enum Event {
    /// Of TCP.
    Tcp(TcpEvent),
    /// The turns of a TCP socket whose end comes next.
    Latency(Box<TcpLatency>),
    /// Of UDP.
    Udp(UdpEvent),
    /// Of DNS.
    Dns(DnsAnswer),
}

/// A TCP record with its time and its process.
#[derive(Debug, Clone)]
pub struct TcpEvent {
    /// When, UTC.
    pub time: Timestamp,
    /// What the kernel told.
    pub tcp: Box<Tcp>,
    /// Who: for connect, owner and listen, and the closer of a connection that nobody had touched;
    /// otherwise `None`.
    pub process: Option<Arc<Process>>,
}

/// A UDP record with its process.
#[derive(Debug, Clone)]
pub struct UdpEvent {
    /// What the kernel told.
    pub udp: Box<Udp>,
    /// Who; `None` where the record names nobody.
    pub process: Option<Arc<Process>>,
}

/// Keeps the processes, makes the events.
#[derive(Debug)]
pub struct Enricher {
    processes: ProcessTable,
    stats: Arc<Stats>,
}

impl Enricher {
    /// Knows no process yet. `proc_root` is `/proc`, `passwd` is `/etc/passwd`; at most
    /// `max_processes` are kept.
    pub fn new(proc_root: &Path, passwd: &Path, max_processes: usize, stats: Arc<Stats>) -> Self {
        let processes = ProcessTable::new(proc_root, passwd, max_processes, Arc::clone(&stats));
        Self { processes, stats }
    }

    /// Processes that are known, and how many may be.
    pub fn occupancy(&self) -> (usize, usize) {
        self.processes.occupancy()
    }

    /// Reads what runs already. Call it after the probes are attached, so that none falls between.
    pub fn scan_running(&mut self) -> usize {
        self.processes.scan()
    }

    /// Has `source` say from here on what no record told.
    pub fn set_proc_source(&mut self, source: Box<dyn ProcSource>) {
        self.processes.set_proc_source(source);
    }

    /// Takes a record in; an event comes out of those that are about a socket, and of DNS answers
    /// that name an address.
    pub fn event(&mut self, record: Record, clock: &BootClock) -> Option<Event> {
        match record {
            Record::Tcp(tcp) => {
                self.stats.tcp_records_received.increment();
                let process = self.process_of(tcp.kind, &tcp.task);
                Some(Event::Tcp(TcpEvent { time: clock.wall(tcp.boot_ns), tcp, process }))
            }
            Record::Latency(turns) => {
                self.stats.tcp_records_received.increment();
                Some(Event::Latency(turns))
            }
            Record::Udp(udp) => {
                self.stats.udp_records_received.increment();
                let process = match &*udp {
                    Udp::Release { .. } => None,
                    Udp::Flow(UdpFlow { task, .. }) if task.tgid == 0 => None,
                    // Noted when it bound or read earlier: its user may have changed since.
                    Udp::Flow(UdpFlow { task, source, .. }) if *source < UdpOwnerSource::Sent => {
                        Some(self.processes.of_past_task(task))
                    }
                    Udp::Flow(UdpFlow { task, .. }) | Udp::Owner(UdpOwner { task, .. }) => {
                        Some(self.processes.of_task(task))
                    }
                };
                Some(Event::Udp(UdpEvent { udp, process }))
            }
            Record::Dns(dns) => self.answer(&dns, clock).map(Event::Dns),
            Record::Exec(exec) => {
                let _image = self.exec(exec);
                None
            }
            Record::Fork(fork) => {
                self.stats.process_records_received.increment();
                self.processes.fork(&fork);
                None
            }
            Record::Exit(exit) => {
                self.stats.process_records_received.increment();
                self.processes.exit(&exit);
                None
            }
            Record::CgroupMkdir(made) => {
                self.stats.process_records_received.increment();
                self.processes.cgroup_made(&made);
                None
            }
        }
    }

    /// Takes an exec in; gives the process as it is now.
    pub fn exec(&mut self, exec: Exec) -> Arc<Process> {
        self.stats.process_records_received.increment();
        self.processes.exec(exec)
    }

    /// The process that holds an open socket; `None` when it has gone.
    pub fn of_socket_owner(&mut self, owner: SocketOwner) -> Option<Arc<Process>> {
        self.processes.of_socket_owner(owner)
    }

    /// Folder that a process works in; "" where it is not known, or the process has ended.
    pub fn working_directory(&self, process: &Process) -> String {
        self.processes.working_directory(process)
    }

    fn answer(&self, dns: &Dns, clock: &BootClock) -> Option<DnsAnswer> {
        self.stats.dns_records_received.increment();
        if dns.cut {
            self.stats.dns_answers_truncated.increment();
        }
        match dns_answer::answer(&dns.message, clock.wall(dns.boot_ns)) {
            Ok(answer) => Some(answer),
            Err(DnsAnswerError::NoAddress) => None,
            Err(error) => {
                self.stats.dns_answers_rejected.increment();
                tracing::debug!(server = %dns.server, %error, "DNS answer not used");
                None
            }
        }
    }

    fn process_of(&mut self, kind: TcpKind, task: &Task) -> Option<Arc<Process>> {
        match kind {
            TcpKind::Connect | TcpKind::ConnectFailed | TcpKind::Owner(_) | TcpKind::Listen => {
                Some(self.processes.of_task(task))
            }
            // Who closed what nobody had touched.
            TcpKind::Close if task.tgid != 0 => Some(self.processes.of_task(task)),
            TcpKind::Established { .. } | TcpKind::Close | TcpKind::Unlisten => None,
        }
    }
}
