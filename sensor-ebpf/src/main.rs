//! BPF programs of netsensor, and the parts that every BPF object needs.
//!
//! Built only for `bpfel-unknown-none`, by `cargo xtask build-ebpf`. Programs never wait for user
//! space: a record that does not fit in the ring is lost and counted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "kernel memory, map values and helpers; each block has its proof")]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod accept_pending;
mod dns;
mod emit;
mod flow;
mod globals;
mod kernel;
mod packet;
mod probes {
    mod cgroup;
    mod process;
    mod socket_io;
    mod tcp_accept;
    mod tcp_connect;
    mod tcp_latency;
    mod tcp_state;
    mod udp_owner;
    mod udp_packet;
}
mod refusal;
mod sock;
mod task;

/// License of the programs. The kernel refuses helpers marked `gpl_only`, the tracing ones among
/// them, to programs with an incompatible one (`include/linux/license.h:
/// license_is_gpl_compatible`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no program has a path that panics: arithmetic is wrapping or masked, and indexing is
    // checked. Otherwise the verifier would refuse the endless loop, and the object would not load.
    loop {}
}
