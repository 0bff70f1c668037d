//! `SimDisk`: a folder in memory that knows what of it is synced, and can lose the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;

use super::super::storage::{Storage, StorageFile};

/// What the disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuses {
    Nothing,
    /// Bytes beyond so many in all files.
    Room(usize),
    /// Every change.
    Writes,
    /// Syncs: what they were for is lost, though it still reads well.
    Syncs,
    /// Everything, reading included.
    All,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Reserve(usize),
    Truncate(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, most: usize) {
        match self {
            Self::Write(offset, new) => {
                let new = &new[..new.len().min(most)];
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
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    unsynced_names: Vec<DirChange>,
    refuses: Refuses,
    /// Files can be given room before it is used.
    reserves: bool,
    /// Changes until the machine stops.
    fuse: Option<u64>,
}

impl World {
    /// Whether a change may be made; `Err` once the machine has stopped.
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

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            refuses: Refuses::Nothing,
            reserves: true,
            fuse: None,
        })))
    }

    /// One on which no file has room before it is used.
    pub(super) fn without_reserve() -> Self {
        let disk = Self::new();
        disk.world().reserves = false;
        disk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn refuse(&self, what: Refuses) {
        self.world().refuses = what;
    }

    /// The machine stops after so many changes.
    pub(super) fn stop_after(&self, changes: u64) {
        self.world().fuse = Some(changes);
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> usize {
        self.world().used()
    }

    /// The machine comes back: of what was not synced each change is there, in part, or not.
    pub(super) fn crash(&self, seed: u64) {
        let mut world = self.world();
        let mut dice = fastrand::Rng::with_seed(seed);
        world.fuse = None;
        world.refuses = Refuses::Nothing;
        for inode in &mut world.inodes {
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
        // A journal keeps changes of names in order.
        let kept = dice.usize(0..=world.unsynced_names.len());
        let mut names = world.synced_names.clone();
        for change in world.unsynced_names.drain(..).take(kept) {
            match change {
                DirChange::Link(name, inode) => names.insert(name, inode),
                DirChange::Unlink(name) => names.remove(&name),
            };
        }
        world.names.clone_from(&names);
        world.synced_names = names;
    }

    /// The agent was killed and the machine goes on.
    pub(super) fn kill(&self) {
        let mut world = self.world();
        world.fuse = None;
        world.refuses = Refuses::Nothing;
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.inodes[world.names[name]].current.clone()
    }

    /// Puts a file there, synced.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut world = self.world();
        let inode = world.inodes.len();
        let (synced, current) = (bytes.to_vec(), bytes.to_vec());
        world.inodes.push(Inode { synced, current, unsynced: Vec::new() });
        world.names.insert(name.to_owned(), inode);
        world.synced_names.insert(name.to_owned(), inode);
    }
}

impl Storage for SimDisk {
    fn prepare(&self) -> io::Result<()> {
        self.world().read()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let world = self.world();
        world.read()?;
        let length = |inode: &usize| world.inodes[*inode].current.len() as u64;
        Ok(world.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut world = self.world();
        world.change()?;
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.change_names(DirChange::Link(name.to_owned(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut world = self.world();
        world.change()?;
        let inode = *world.names.get(name).ok_or(Errno::ENOENT)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let world = self.world();
        world.read()?;
        let bytes = &world.inodes[*world.names.get(name).ok_or(Errno::ENOENT)?].current;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(length))].to_vec())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.names.get(name).ok_or(Errno::ENOENT)?;
        world.change_names(DirChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let inode = *world.names.get(from).ok_or(Errno::ENOENT)?;
        world.change_names(DirChange::Link(to.to_owned(), inode));
        world.change_names(DirChange::Unlink(from.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.synced_names = world.names.clone();
        world.unsynced_names.clear();
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
    fn change(&self, world: &mut World, change: Change, most: usize) {
        let inode = &mut world.inodes[self.inode];
        let change = match change {
            Change::Write(offset, bytes) => {
                Change::Write(offset, bytes[..bytes.len().min(most)].to_vec())
            }
            change @ (Change::Reserve(_) | Change::Truncate(_)) => change,
        };
        change.apply(&mut inode.current, usize::MAX);
        inode.unsynced.push(change);
    }
}

impl StorageFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        let (offset, change) = (usize::try_from(offset).unwrap(), bytes.to_vec());
        if world.fuse == Some(0) {
            return Err(Errno::EIO.into());
        }
        world.change()?;
        if let Refuses::Room(most) = world.refuses {
            let before = world.inodes[self.inode].current.len();
            let more = (offset + bytes.len()).saturating_sub(before);
            let room = most.saturating_sub(world.used());
            if more > room {
                let fits = bytes.len() - (more - room);
                self.change(&mut world, Change::Write(offset, change), fits);
                return Err(Errno::ENOSPC.into());
            }
        }
        self.change(&mut world, Change::Write(offset, change), usize::MAX);
        Ok(())
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        if !world.reserves {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let length = usize::try_from(length).unwrap();
        if let Refuses::Room(most) = world.refuses {
            let before = world.inodes[self.inode].current.len();
            if length.saturating_sub(before) > most.saturating_sub(world.used()) {
                return Err(Errno::ENOSPC.into());
            }
        }
        self.change(&mut world, Change::Reserve(length), 0);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        self.change(&mut world, Change::Truncate(usize::try_from(length).unwrap()), 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        let refuses = world.refuses == Refuses::Syncs;
        let inode = &mut world.inodes[self.inode];
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
