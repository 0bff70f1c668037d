//! Capture: the kernel half is loaded here, and its ring is read here. Only this module knows aya.
//! The kernel's connection tracking is asked here too, and what was open before the probes read.

mod accept_hooks;
mod conntrack;
mod hooks;
mod latency_map;
mod loader;
mod missed_runs;
mod offsets;
mod sockets;
mod udp_flows;
mod udp_hooks;

pub use conntrack::{Conntrack, ConntrackError, Tuple, tracked};
pub use hooks::{Hook, HookState, Hooks, PROGRAMS};
pub use latency_map::LatencyMap;
pub use loader::{Capture, CaptureConfig, CaptureError};
pub use missed_runs::Missed;
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use sockets::{Counts, Ends, OpenSocket, OpenSockets, SocketReader, netns_of_link};
pub use udp_flows::UdpFlows;
