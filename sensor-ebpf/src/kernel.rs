//! Reads of kernel memory: by a helper that checks each address, or by plain loads that the
//! verifier has checked (`BPF_PROBE_MEM`, `kernel/bpf/verifier.c`).

use aya_ebpf::helpers::bpf_probe_read_kernel;
use sensor_ebpf::offsets::Offset;

use crate::globals::offset;

/// Kernel structure whose members can be read.
pub(crate) trait Structure: Copy {
    /// Returns a member; `None` if this kernel lacks the member or the page is not mapped.
    fn get<T: Copy>(self, field: Offset) -> Option<T>;

    /// Follows a pointer member; `None` also for a null pointer.
    fn follow(self, field: Offset) -> Option<Self>;
}

/// Structure read with `bpf_probe_read_kernel` (v5.5): any address, in any program, about 25 ns per
/// member.
#[derive(Clone, Copy)]
pub(crate) struct Probed(pub(crate) *const u8);

impl Structure for Probed {
    #[inline(always)]
    fn get<T: Copy>(self, field: Offset) -> Option<T> {
        read_member(self.0, field)
    }

    #[inline(always)]
    fn follow(self, field: Offset) -> Option<Self> {
        read_pointer(self.0, field).map(Self)
    }
}

/// Structure read with plain loads. The verifier must know the pointer's type: an argument of a
/// `tp_btf` program, or a pointer reached from one. A load that faults returns 0.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Typed {
    /// # Safety
    ///
    /// The verifier must know the type of `pointer` from BTF. Otherwise, or at a load outside of
    /// that type, it refuses the program.
    #[inline(always)]
    pub(crate) const unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }
}

impl Structure for Typed {
    #[inline(always)]
    fn get<T: Copy>(self, field: Offset) -> Option<T> {
        let at = offset(field)?;
        // SAFETY: the constructor's contract. The kernel's compiler aligns each member to its size,
        // and the kernel handles a fault (the load returns 0).
        Some(unsafe { self.0.wrapping_add(at).cast::<T>().read_volatile() })
    }

    #[inline(always)]
    fn follow(self, field: Offset) -> Option<Self> {
        let pointer: *const u8 = self.get(field)?;
        if pointer.is_null() { None } else { Some(Self(pointer)) }
    }
}

/// Returns a copy of `pointer` that is a plain number to the verifier; null if the read fails. The
/// verifier forbids arithmetic on a pointer whose type it knows, but has no type for memory that a
/// helper wrote.
#[inline(always)]
pub(crate) fn untyped(pointer: *const u8) -> *const u8 {
    // SAFETY: the source is on this frame's stack, and the helper checks it as well.
    unsafe { bpf_probe_read_kernel(&raw const pointer) }.unwrap_or(core::ptr::null())
}

/// Reads a member of the structure at `base`; `None` if this kernel lacks the member or the page is
/// not mapped.
#[inline(always)]
pub(crate) fn read_member<T>(base: *const u8, field: Offset) -> Option<T> {
    let at = offset(field)?;
    // SAFETY: `bpf_probe_read_kernel` checks every address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(at).cast::<T>()) }.ok()
}

/// Reads a pointer member of the structure at `base`; `None` also for a null pointer.
#[inline(always)]
pub(crate) fn read_pointer(base: *const u8, field: Offset) -> Option<*const u8> {
    let pointer: *const u8 = read_member(base, field)?;
    if pointer.is_null() { None } else { Some(pointer) }
}
