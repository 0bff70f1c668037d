//! Capture: the kernel half is loaded here, and its ring is read here. Only this module knows aya.
//! What was open before the probes is read here too.

mod hooks;
mod offsets;
mod ring;
mod sockets;

pub use hooks::{Hook, HookState, Hooks, PROGRAMS};
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use ring::{Capture, CaptureConfig, CaptureError, KernelLedger};
pub use sockets::{Counts, Ends, OpenSocket, OpenSockets, SocketReader, netns_of_link};
