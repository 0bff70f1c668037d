//! `SimDisk`: a folder in memory that tracks syncs, and can lose changes without one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;

use super::super::storage::{Storage, StorageFile};

/// Operations that the disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuses {
    Nothing,
    /// Bytes above this size of all files.
    Room(usize),
    /// All changes.
    Writes,
    /// Syncs. The data is lost, but can still be read.
    Syncs,
    /// All operations, also reads.
    All,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Reserve(usize),
    Truncate(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, max: usize) {
        match self {
            Self::Write(offset, new) => {
                let new = &new[..new.len().min(max)];
                if bytes.len() < offset + new.len() {
                    bytes.resize(offset + new.len(), 0);
                }
                bytes[*offset..offset + new.len()].copy_from_slice(new);
            }
            Self::Reserve(length) => bytes.resize(bytes.len().max(*length), 0),
            Self::Truncate(length) => bytes.resize(*length, 0),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum DirChange {
    Link(String, usize),
    Unlink(String),
}

#[derive(Debug)]
struct DiskState {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    unsynced_names: Vec<DirChange>,
    refuses: Refuses,
    /// True if room can be reserved.
    reserves: bool,
    /// Number of changes until the machine stops.
    fuse: Option<u64>,
}

impl DiskState {
    /// Counts a change; fails if the disk refuses it, or the machine has stopped.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => return Err(Errno::EIO.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        match self.refuses {
            Refuses::Writes => Err(Errno::EROFS.into()),
            Refuses::All => Err(Errno::EACCES.into()),
            Refuses::Nothing | Refuses::Room(_) | Refuses::Syncs => Ok(()),
        }
    }

    fn read(&self) -> io::Result<()> {
        if self.refuses == Refuses::All { Err(Errno::EACCES.into()) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].current.len()).sum()
    }

    fn change_names(&mut self, change: DirChange) {
        match &change {
            DirChange::Link(name, inode) => self.names.insert(name.clone(), *inode),
            DirChange::Unlink(name) => self.names.remove(name),
        };
        self.unsynced_names.push(change);
    }
}

/// Folder in memory; clones share it.
#[derive(Debug, Clone)]
pub(super) struct SimDisk(Arc<Mutex<DiskState>>);

impl SimDisk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            refuses: Refuses::Nothing,
            reserves: true,
            fuse: None,
        })))
    }

    /// Disk without support for reserved room.
    pub(super) fn without_reserve() -> Self {
        let disk = Self::new();
        disk.state().reserves = false;
        disk
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    pub(super) fn refuse(&self, refuses: Refuses) {
        self.state().refuses = refuses;
    }

    /// Stops the machine after this number of changes.
    pub(super) fn stop_after(&self, changes: u64) {
        self.state().fuse = Some(changes);
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> usize {
        self.state().used()
    }

    /// Restarts the machine. Each change without a sync is there, in part, or not.
    pub(super) fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut dice = fastrand::Rng::with_seed(seed);
        state.fuse = None;
        state.refuses = Refuses::Nothing;
        for inode in &mut state.inodes {
            let mut bytes = inode.synced.clone();
            for change in std::mem::take(&mut inode.unsynced) {
                match (dice.u8(0..4), &change) {
                    (0 | 1, _) => change.apply(&mut bytes, usize::MAX),
                    (2, Change::Write(_, new)) => {
                        change.apply(&mut bytes, dice.usize(0..=new.len()));
                    }
                    _ => {}
                }
            }
            inode.synced.clone_from(&bytes);
            inode.current = bytes;
        }
        // A journal applies changes of names in order.
        let kept = dice.usize(0..=state.unsynced_names.len());
        let mut names = state.synced_names.clone();
        for change in state.unsynced_names.drain(..).take(kept) {
            match change {
                DirChange::Link(name, inode) => names.insert(name, inode),
                DirChange::Unlink(name) => names.remove(&name),
            };
        }
        state.names.clone_from(&names);
        state.synced_names = names;
    }

    /// Kills the agent; the machine goes on.
    pub(super) fn kill(&self) {
        let mut state = self.state();
        state.fuse = None;
        state.refuses = Refuses::Nothing;
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[name]].current.clone()
    }

    /// Removes a file, as somebody else would.
    pub(super) fn take(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.synced_names.remove(name);
    }

    /// Adds a synced file.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        let (synced, current) = (bytes.to_vec(), bytes.to_vec());
        state.inodes.push(Inode { synced, current, unsynced: Vec::new() });
        state.names.insert(name.to_owned(), inode);
        state.synced_names.insert(name.to_owned(), inode);
    }
}

impl Storage for SimDisk {
    fn prepare(&self) -> io::Result<()> {
        self.state().read()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.read()?;
        let length = |inode: &usize| state.inodes[*inode].current.len() as u64;
        Ok(state.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.change()?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_names(DirChange::Link(name.to_owned(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.change()?;
        let inode = *state.names.get(name).ok_or(Errno::ENOENT)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.read()?;
        let bytes = &state.inodes[*state.names.get(name).ok_or(Errno::ENOENT)?].current;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(length))].to_vec())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.get(name).ok_or(Errno::ENOENT)?;
        state.change_names(DirChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let inode = *state.names.get(from).ok_or(Errno::ENOENT)?;
        state.change_names(DirChange::Link(to.to_owned(), inode));
        state.change_names(DirChange::Unlink(from.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/spool").join(name)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn change(&self, state: &mut DiskState, change: Change, max: usize) {
        let inode = &mut state.inodes[self.inode];
        let change = match change {
            Change::Write(offset, bytes) => {
                Change::Write(offset, bytes[..bytes.len().min(max)].to_vec())
            }
            change @ (Change::Reserve(_) | Change::Truncate(_)) => change,
        };
        change.apply(&mut inode.current, usize::MAX);
        inode.unsynced.push(change);
    }
}

impl StorageFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let (offset, change) = (usize::try_from(offset).unwrap(), bytes.to_vec());
        if state.fuse == Some(0) {
            return Err(Errno::EIO.into());
        }
        state.change()?;
        if let Refuses::Room(max) = state.refuses {
            let before = state.inodes[self.inode].current.len();
            let more = (offset + bytes.len()).saturating_sub(before);
            let room = max.saturating_sub(state.used());
            if more > room {
                let fits = bytes.len() - (more - room);
                self.change(&mut state, Change::Write(offset, change), fits);
                return Err(Errno::ENOSPC.into());
            }
        }
        self.change(&mut state, Change::Write(offset, change), usize::MAX);
        Ok(())
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        if !state.reserves {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let length = usize::try_from(length).unwrap();
        if let Refuses::Room(max) = state.refuses {
            let before = state.inodes[self.inode].current.len();
            if length.saturating_sub(before) > max.saturating_sub(state.used()) {
                return Err(Errno::ENOSPC.into());
            }
        }
        self.change(&mut state, Change::Reserve(length), 0);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        self.change(&mut state, Change::Truncate(usize::try_from(length).unwrap()), 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        let refuses = state.refuses == Refuses::Syncs;
        let inode = &mut state.inodes[self.inode];
        let changes = std::mem::take(&mut inode.unsynced);
        if refuses {
            return Err(Errno::EIO.into());
        }
        for change in changes {
            change.apply(&mut inode.synced, usize::MAX);
        }
        Ok(())
    }
}
