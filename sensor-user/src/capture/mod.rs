//! Capture: the kernel half is loaded here, and its ring is read here. Only this module knows aya.

mod hooks;
mod offsets;
mod ring;
mod udp_flows;
mod udp_hooks;

pub use hooks::{Hook, HookState, Hooks, PROGRAMS};
pub use offsets::{BtfError, KernelTypes, VMLINUX_BTF};
pub use ring::{Capture, CaptureConfig, CaptureError, KernelLedger};
pub use udp_flows::UdpFlows;
