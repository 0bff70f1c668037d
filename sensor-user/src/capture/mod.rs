//! Capture: the kernel half is loaded here, and its ring is read here. Only this module knows aya.
//! The kernel's connection tracking is asked here too.

mod conntrack;
mod hooks;
mod offsets;
mod ring;

pub use conntrack::{Conntrack, ConntrackError, Tuple, tracked};
pub use hooks::{Hook, HookState, Hooks, PROGRAMS};
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use ring::{Capture, CaptureConfig, CaptureError, KernelLedger};
