//! Capture: loads the BPF programs, and reads their ring buffer and maps. Only this module uses
//! aya. It also queries the kernel's connection tracking, and lists open sockets.

mod accept_hooks;
mod attach;
mod cgroup2;
mod config;
mod conntrack;
mod error;
mod hooks;
mod latency_map;
mod loader;
mod maps;
mod missed_runs;
mod netns;
mod offsets;
mod sockets;
mod udp_flows;
mod udp_hooks;

pub use attach::{Hook, HookState};
pub use cgroup2::cgroup2_mount;
pub use config::CaptureConfig;
pub use conntrack::{Conntrack, ConntrackError, TrackedConnection, Tuple, tracked_connections};
pub use error::CaptureError;
pub use hooks::{Hooks, programs};
pub use latency_map::LatencyMap;
pub use loader::Capture;
pub use missed_runs::MissedRuns;
pub use netns::{HomeNetns, enter_netns, netns_of_link, open_netns};
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use sockets::{Ends, OpenSocket, OpenSockets, SocketReader, TcpCounts};
pub use udp_flows::UdpFlows;
