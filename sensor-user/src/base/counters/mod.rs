//! All counters of the agent and of its BPF programs. Each is declared once, with its help text and
//! its metrics; `status --json`, the metrics page, the loss ledger and `docs/metrics.md` follow.
//!
//! Counters only grow. Each loss has its own counter, by the stage that lost. A hit or alert that a
//! policy suppresses (dedup, exclusion, allow-list) is not a loss and is never called "dropped".
//!
//! Names are `<noun>_<past participle>[_<reason>]`. A counter is exposed as the metric
//! `netsensor_<name>_total`, unless it is declared `in` a [`Family`], which then has its value under
//! the given labels. `and` adds a further family.

mod families;
mod kernel;
mod stats;

use std::sync::atomic::{AtomicU64, Ordering};

pub use families::LOSSES;
pub use kernel::KernelCounters;
pub use stats::Stats;

/// One monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A metric family that several counters make up, one for each set of label values.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name without the prefix `netsensor_` and the suffix `_total`.
    pub name: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

/// A counter's sample in a [`Family`].
#[derive(Debug)]
pub struct FamilySample {
    /// Family of the sample.
    pub family: &'static Family,
    /// Label values, in the order of the family's labels.
    pub labels: &'static [&'static str],
}

/// The declaration of one counter.
#[derive(Debug)]
pub struct Declaration {
    /// Name in `status --json`.
    pub name: &'static str,
    /// Help text, the counter's doc comment.
    pub help: &'static str,
    /// Family instead of the counter's own one; at most one entry.
    pub family: &'static [FamilySample],
    /// Families in addition.
    pub also: &'static [FamilySample],
}

impl Declaration {
    /// Samples of this counter in shared families.
    pub fn samples(&self) -> impl Iterator<Item = &FamilySample> {
        self.family.iter().chain(self.also)
    }

    /// Returns this counter's label values in `family`, if it belongs to it.
    pub fn labels_in(&self, family: &Family) -> Option<&'static [&'static str]> {
        self.samples().find(|sample| sample.family == family).map(|sample| sample.labels)
    }
}

macro_rules! counters {
    (
        $(#[$attribute:meta])*
        pub struct $set:ident($type:ty), $prefix:literal;
        $(
            $(#[doc = $doc:literal])*
            $name:ident $(in $family:ident $labels:tt)? $(and $also:ident $also_labels:tt)?;
        )*
    ) => {
        $(#[$attribute])*
        pub struct $set {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl $set {
            /// Declarations of these counters, in the order of the data path.
            pub const DECLARATIONS: &[Declaration] = &[$(Declaration {
                name: concat!($prefix, stringify!($name)),
                help: concat!($($doc),*).trim_ascii(),
                family: &[$(FamilySample { family: &$family, labels: &$labels })?],
                also: &[$(FamilySample { family: &$also, labels: &$also_labels })?],
            },)*];

            /// All counters, in the order of their declarations.
            fn counters(&self) -> impl Iterator<Item = &$type> {
                [$(&self.$name,)*].into_iter()
            }
        }
    };
}

use counters;
