//! `Calls`: which system calls a process may make; every other one is refused with `EPERM`.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Number of a system call.
pub(crate) type Number = i64;

/// A condition on one argument, of which the lower 32 bits count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// It is this.
    Is(u8, u64),
    /// It is not this.
    IsNot(u8, u64),
    /// These bits of it (the first number) are these (the second).
    Bits(u8, u64, u64),
}

/// What is allowed: a call as it is, or where one of several sets of conditions holds.
#[derive(Debug, Default)]
pub(crate) struct Calls(BTreeMap<Number, Vec<Vec<Argument>>>);

impl Calls {
    /// Also allows `numbers`, whatever their arguments.
    pub(crate) fn with(mut self, numbers: &[Number]) -> Self {
        for number in numbers {
            self.0.insert(*number, Vec::new());
        }
        self
    }

    /// Also allows `number` where all of `conditions` hold.
    pub(crate) fn with_if(mut self, number: Number, conditions: &[Argument]) -> Self {
        match self.0.get_mut(&number) {
            // It is allowed whatever its arguments.
            Some(sets) if sets.is_empty() => {}
            Some(sets) => sets.push(conditions.to_vec()),
            None => {
                self.0.insert(number, vec![conditions.to_vec()]);
            }
        }
        self
    }

    /// Applies to the calling thread and its descendants. `clone3` fails with ENOSYS, since no filter
    /// can see its flags; the C library then falls back to `clone`.
    pub(crate) fn enforce(self) -> io::Result<()> {
        let filter = self.filter(libc::EPERM).map_err(io::Error::other)?;
        let absent = absent(libc::SYS_clone3).map_err(io::Error::other)?;
        seccompiler::apply_filter(&absent).map_err(io::Error::other)?;
        seccompiler::apply_filter(&filter).map_err(io::Error::other)
    }

    fn filter(self, refusal: i32) -> Result<BpfProgram, BackendError> {
        let mut rules = BTreeMap::new();
        for (number, sets) in self.0 {
            let sets = sets.iter().map(|set| rule(set)).collect::<Result<Vec<_>, _>>()?;
            rules.insert(number, sets);
        }
        // The other filter refuses it with ENOSYS.
        rules.insert(libc::SYS_clone3, Vec::new());
        SeccompFilter::new(
            rules,
            SeccompAction::Errno(refusal.unsigned_abs()),
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()
    }
}

fn absent(number: Number) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        BTreeMap::from([(number, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn rule(set: &[Argument]) -> Result<SeccompRule, BackendError> {
    let conditions = set.iter().map(|argument| {
        let (index, operator, value) = match *argument {
            Argument::Is(index, value) => (index, SeccompCmpOp::Eq, value),
            Argument::IsNot(index, value) => (index, SeccompCmpOp::Ne, value),
            Argument::Bits(index, mask, value) => (index, SeccompCmpOp::MaskedEq(mask), value),
        };
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
    });
    SeccompRule::new(conditions.collect::<Result<Vec<_>, _>>()?)
}
