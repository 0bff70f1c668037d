//! Capture: loads the BPF programs, and reads their ring buffer and maps. Only this module uses aya. It also
//! queries the kernel's connection tracking, and lists open sockets.

mod accept_hooks;
mod attach;
mod conntrack;
mod error;
mod hooks;
mod latency_map;
mod loader;
mod missed_runs;
mod offsets;
mod sockets;
mod udp_flows;
mod udp_hooks;

pub use attach::{Hook, HookState};
pub use conntrack::{Conntrack, ConntrackError, Tuple, tracked_connections};
pub use error::CaptureError;
pub use hooks::{Hooks, PROGRAMS};
pub use latency_map::LatencyMap;
pub use loader::{Capture, CaptureConfig};
pub use missed_runs::MissedRuns;
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use sockets::{Ends, OpenSocket, OpenSockets, SocketReader, TcpCounts, netns_of_link};
pub use udp_flows::UdpFlows;
