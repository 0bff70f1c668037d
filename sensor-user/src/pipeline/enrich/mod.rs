//! Enrich: from `Record` to `Event`. Adds the process and the wall-clock time to a record.
//!
//! Process facts are from exec, fork and exit records, in the order of the ring buffer: they are
//! known before the first connection of a process, however short-lived it is. /proc is read once at
//! start for running processes, and later only for a process that is in no record (counted).

pub mod proc_worker;

mod cgroups;
mod country_names;
mod dns_answer;
mod dns_cache;
mod event;
mod geoip;
mod proc_fs;
mod process;
mod process_table;
mod socket_owners;
mod users;

use std::path::Path;
use std::sync::Arc;

use sensor_ebpf::record::UdpOwnerSource;

use super::decode::{Dns, Exec, Record, Task, TcpKind, Udp, UdpFlow, UdpOwner};
use crate::base::clock::BootClock;
use crate::base::counters::Stats;

pub use dns_answer::{DnsAnswer, DnsAnswerError};
pub use dns_cache::{DnsCache, DnsNames};
pub use event::{Event, TcpEvent, UdpEvent};
pub use geoip::{GeoIpDatabase, GeoIpError, GeoLocation};
pub use proc_fs::{ProcFacts, ProcFolder, ProcSource};
pub use process::Process;
pub use process_table::ProcessTable;
pub use socket_owners::{SocketOwner, SocketOwners};

/// Converts records into events, with the process table.
#[derive(Debug)]
pub struct Enricher {
    processes: ProcessTable,
    stats: Arc<Stats>,
}

impl Enricher {
    /// An enricher without processes. `proc_root` is `/proc`, `passwd` is `/etc/passwd`; at most
    /// `max_processes` are kept.
    pub fn new(proc_root: &Path, passwd: &Path, max_processes: usize, stats: Arc<Stats>) -> Self {
        let processes = ProcessTable::new(proc_root, passwd, max_processes, Arc::clone(&stats));
        Self { processes, stats }
    }

    /// Number of known processes, and its maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        self.processes.occupancy()
    }

    /// Reads the running processes. Must be called after the probes are attached, so that none is
    /// missed.
    pub fn scan_running(&mut self) -> usize {
        self.processes.scan()
    }

    /// Sets the source of processes that are in no record; before, it is /proc.
    pub fn set_proc_source(&mut self, source: Box<dyn ProcSource>) {
        self.processes.set_proc_source(source);
    }

    /// Processes a record. Returns an event for records of sockets, and for DNS answers with an
    /// address.
    pub fn event(&mut self, record: Record, clock: &BootClock) -> Option<Event> {
        match record {
            Record::Tcp(tcp) => {
                self.stats.tcp_records_received.increment();
                let process = self.process_of(tcp.kind, &tcp.task);
                Some(Event::Tcp(TcpEvent { time: clock.wall(tcp.boot_ns), tcp, process }))
            }
            Record::Latency(latency) => {
                self.stats.tcp_records_received.increment();
                Some(Event::Latency(latency))
            }
            Record::Udp(udp) => {
                self.stats.udp_records_received.increment();
                let process = match &*udp {
                    Udp::Release { .. } | Udp::Refused(_) => None,
                    Udp::Flow(UdpFlow { task, .. }) if task.tgid == 0 => None,
                    // The kernel stored the task at an earlier bind or read: its user may have
                    // changed since.
                    Udp::Flow(UdpFlow { task, source, .. }) if *source < UdpOwnerSource::Sent => {
                        Some(self.processes.of_past_task(task))
                    }
                    Udp::Flow(UdpFlow { task, .. }) | Udp::Owner(UdpOwner { task, .. }) => {
                        Some(self.processes.of_task(task))
                    }
                };
                Some(Event::Udp(UdpEvent { udp, process }))
            }
            Record::Dns(dns) => self.dns_answer(&dns, clock).map(Event::Dns),
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
            Record::CgroupMkdir(cgroup) => {
                self.stats.process_records_received.increment();
                self.processes.add_cgroup(&cgroup);
                None
            }
        }
    }

    /// Processes an exec. Returns the process with its new image.
    pub fn exec(&mut self, exec: Exec) -> Arc<Process> {
        self.stats.process_records_received.increment();
        self.processes.exec(exec)
    }

    /// Process that owns an open socket; `None` if it has exited.
    pub fn of_socket_owner(&mut self, owner: SocketOwner) -> Option<Arc<Process>> {
        self.processes.of_socket_owner(owner)
    }

    /// Working directory of a process; "" if it is unknown, or the process has exited.
    pub fn working_directory(&self, process: &Process) -> String {
        self.processes.working_directory(process)
    }

    fn dns_answer(&self, dns: &Dns, clock: &BootClock) -> Option<DnsAnswer> {
        self.stats.dns_records_received.increment();
        if dns.is_truncated {
            self.stats.dns_answers_truncated.increment();
        }
        match DnsAnswer::parse(&dns.message, clock.wall(dns.boot_ns)) {
            Ok(answer) => Some(answer),
            Err(DnsAnswerError::NoAddress) => None,
            Err(error) => {
                self.stats.dns_answers_rejected.increment();
                tracing::debug!(server = %dns.server, %error, "DNS answer rejected");
                None
            }
        }
    }

    fn process_of(&mut self, kind: TcpKind, task: &Task) -> Option<Arc<Process>> {
        match kind {
            // A kernel thread connects for another task.
            TcpKind::Connect if task.tgid == 0 => None,
            TcpKind::Connect | TcpKind::ConnectFailed | TcpKind::Owner(_) | TcpKind::Listen => {
                Some(self.processes.of_task(task))
            }
            // A close has a task only if no process had used the connection before.
            TcpKind::Close if task.tgid != 0 => Some(self.processes.of_task(task)),
            TcpKind::Established { .. } | TcpKind::Close | TcpKind::Unlisten => None,
        }
    }
}
