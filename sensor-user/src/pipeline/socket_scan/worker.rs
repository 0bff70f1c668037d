//! The helper `looks`: lists what is open in every network namespace, and who holds it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client::{Answer, Ask, Question, Told};
use crate::base::counters::Stats;
use crate::pipeline::aggregate::ScanKind;
use crate::pipeline::capture::{OpenSockets, SocketReader};
use crate::pipeline::enrich::SocketOwners;
use crate::privsep::{Channel, serve};

/// Answers until there are no more questions.
pub fn serve_scans(channel: Channel) -> io::Result<()> {
    let stats = Arc::new(Stats::default());
    let mut looker = None;
    serve(channel, |(max, ask): Question| -> Told {
        let new = || Looker::new(Path::new("/proc"), max, Arc::clone(&stats));
        let answer = looker.get_or_insert_with(new).answer(ask);
        (answer, stats.take())
    })
}

/// What the helper owns.
struct Looker {
    reader: SocketReader,
    proc_root: &'static Path,
    /// Open files that name namespaces which nothing else does.
    files: Vec<(u32, PathBuf)>,
}

impl Looker {
    fn new(proc_root: &'static Path, max: usize, stats: Arc<Stats>) -> Self {
        Self { reader: SocketReader::new(proc_root, max, stats), proc_root, files: Vec::new() }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::First => self.first(),
            Ask::Again(namespaces) => Answer {
                kind: ScanKind::Again,
                open: self.reader.look(namespaces.as_ref(), &self.files),
                holders: SocketOwners::default(),
            },
            Ask::Unknown(sockets, began_boot_ns) => {
                let open = OpenSockets::again(began_boot_ns, sockets);
                let holders = self.holders(&inodes(&open));
                Answer { kind: ScanKind::Unknown, open, holders }
            }
        }
    }

    fn first(&mut self) -> Answer {
        let mut open = self.reader.look(None, &[]);
        let mut holders = self.holders(&inodes(&open));
        // Namespaces that only an open file names are known now.
        let read = &open.namespaces;
        let named = self.files.iter().map(|(inode, _)| *inode);
        let hidden: HashSet<u32> = named.filter(|inode| !read.contains(inode)).collect();
        if !hidden.is_empty() {
            let more = self.reader.look(Some(&hidden), &self.files);
            holders.extend(&self.holders(&inodes(&more)));
            open.extend(more);
        }
        Answer { kind: ScanKind::First, open, holders }
    }

    fn holders(&mut self, inodes: &HashSet<u32>) -> SocketOwners {
        let mut holders = SocketOwners::read(self.proc_root, inodes);
        self.files = std::mem::take(&mut holders.namespace_files);
        holders
    }
}

fn inodes(open: &OpenSockets) -> HashSet<u32> {
    open.iter().map(|socket| socket.inode).filter(|inode| *inode != 0).collect()
}
