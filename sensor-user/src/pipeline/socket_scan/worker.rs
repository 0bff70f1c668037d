//! The worker `socket-scan`: lists the open sockets of every network namespace, and their owners.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::messages::{Scan, ScanRequest, ScanResponse, ScanResult};
use crate::base::counters::Stats;
use crate::pipeline::aggregate::ScanKind;
use crate::pipeline::capture::{OpenSockets, SocketReader};
use crate::pipeline::enrich::SocketOwners;
use crate::privsep::{Channel, serve};

/// Responds to scan requests until the agent closes the channel.
pub(crate) fn serve_scans(channel: Channel) -> io::Result<()> {
    let stats = Arc::new(Stats::default());
    let mut scanner = None;
    serve(channel, |request: ScanRequest| {
        let new = || Scanner::new(Path::new("/proc"), request.sockets_max, Arc::clone(&stats));
        let result = scanner.get_or_insert_with(new).scan(request.scan);
        ScanResponse { result, counters: stats.take() }
    })
}

/// State of the worker.
struct Scanner {
    reader: SocketReader,
    proc_root: &'static Path,
    /// Open files that refer to namespaces which no process is in and no mount names.
    namespace_files: Vec<(u32, PathBuf)>,
}

impl Scanner {
    fn new(proc_root: &'static Path, sockets_max: usize, stats: Arc<Stats>) -> Self {
        let reader = SocketReader::new(proc_root, sockets_max, stats);
        Self { reader, proc_root, namespace_files: Vec::new() }
    }

    fn scan(&mut self, scan: Scan) -> ScanResult {
        match scan {
            Scan::Initial => self.initial(),
            Scan::Periodic(namespaces) => ScanResult {
                kind: ScanKind::Periodic,
                open: self.reader.scan(namespaces.as_ref(), &self.namespace_files),
                owners: SocketOwners::default(),
            },
            Scan::Owners { sockets, began_boot_ns } => {
                let open = OpenSockets::from_connections(began_boot_ns, sockets);
                let owners = self.owners(&inodes(&open));
                ScanResult { kind: ScanKind::Owners, open, owners }
            }
        }
    }

    fn initial(&mut self) -> ScanResult {
        let mut open = self.reader.scan(None, &[]);
        let mut owners = self.owners(&inodes(&open));
        // The owner scan has found the namespaces that only an open file refers to.
        let read = &open.namespaces;
        let named = self.namespace_files.iter().map(|(inode, _)| *inode);
        let hidden: HashSet<u32> = named.filter(|inode| !read.contains(inode)).collect();
        if !hidden.is_empty() {
            let more = self.reader.scan(Some(&hidden), &self.namespace_files);
            owners.extend(&self.owners(&inodes(&more)));
            open.extend(more);
        }
        ScanResult { kind: ScanKind::Initial, open, owners }
    }

    fn owners(&mut self, inodes: &HashSet<u32>) -> SocketOwners {
        let mut owners = SocketOwners::read(self.proc_root, inodes);
        self.namespace_files = std::mem::take(&mut owners.namespace_files);
        owners
    }
}

fn inodes(open: &OpenSockets) -> HashSet<u32> {
    open.iter().map(|socket| socket.inode).filter(|inode| *inode != 0).collect()
}
