//! Capture: the kernel half is loaded here, and its ring is read here. Only this module knows aya.
//! The kernel's connection tracking is asked here too, and what was open before the probes read.

mod conntrack;
mod hooks;
mod misses;
mod offsets;
mod ring;
mod sockets;
mod touch_hooks;
mod turns;
mod udp_flows;
mod udp_hooks;

pub use conntrack::{Conntrack, ConntrackError, Tuple, tracked};
pub use hooks::{Hook, HookState, Hooks, PROGRAMS};
pub use misses::Missed;
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use ring::{Capture, CaptureConfig, CaptureError, KernelLedger};
pub use sockets::{Counts, Ends, OpenSocket, OpenSockets, SocketReader, netns_of_link};
pub use turns::LatencyMap;
pub use udp_flows::UdpFlows;
