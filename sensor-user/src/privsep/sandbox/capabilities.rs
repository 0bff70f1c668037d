//! To drop capabilities: a process keeps those of a list, and never has more than it was given.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// Those of `wanted` that the process has.
pub(crate) fn held(wanted: &[Capability]) -> io::Result<CapsHashSet> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    Ok(wanted.iter().copied().filter(|it| permitted.contains(it)).collect())
}

/// Clears the effective and the bounding set; the permitted set stays.
pub(crate) fn rest() -> io::Result<()> {
    bound(&CapsHashSet::new())?;
    caps::clear(None, CapSet::Effective).map_err(io::Error::other)
}

/// Retains only `kept`, and passes nothing on to child processes.
pub(crate) fn keep_only(kept: &CapsHashSet) -> io::Result<()> {
    bound(kept)?;
    set(CapSet::Ambient, &CapsHashSet::new())?;
    set(CapSet::Inheritable, &CapsHashSet::new())?;
    set(CapSet::Effective, kept)?;
    set(CapSet::Permitted, kept)
}

/// Clears the effective set, and passes `kept` on to child processes.
pub(crate) fn pass_on(kept: &CapsHashSet) -> io::Result<()> {
    bound(kept)?;
    set(CapSet::Ambient, &CapsHashSet::new())?;
    set(CapSet::Effective, &CapsHashSet::new())?;
    set(CapSet::Permitted, kept)?;
    set(CapSet::Inheritable, kept)?;
    set(CapSet::Ambient, kept)
}

/// Limits the bounding set to `kept`, if the process has `CAP_SETPCAP`. Otherwise `no_new_privs`
/// alone prevents that a child gains others.
fn bound(kept: &CapsHashSet) -> io::Result<()> {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    if !may.map_err(io::Error::other)? {
        return Ok(());
    }
    let bounding = caps::read(None, CapSet::Bounding).map_err(io::Error::other)?;
    for capability in bounding.difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
    }
    Ok(())
}

fn set(which: CapSet, to: &CapsHashSet) -> io::Result<()> {
    caps::set(None, which, to).map_err(io::Error::other)
}
