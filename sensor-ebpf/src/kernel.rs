//! How kernel memory is read: by a helper that checks each address, or by plain loads that the
//! verifier has checked.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use sensor_ebpf::offsets::Offset;

use crate::globals::offset;

/// A structure of the kernel whose members can be read.
pub(crate) trait Structure: Copy {
    /// A member; `None` when this kernel has no such member or no such page.
    fn get<T: Copy>(self, at: Offset) -> Option<T>;

    /// What a pointer member points to; `None` for a null one too.
    fn follow(self, at: Offset) -> Option<Self>;
}

/// Read with `bpf_probe_read_kernel`: any address, in any program, some 25 ns a member.
#[derive(Clone, Copy)]
pub(crate) struct Probed(pub(crate) *const u8);

impl Structure for Probed {
    #[inline(always)]
    fn get<T: Copy>(self, at: Offset) -> Option<T> {
        member(self.0, at)
    }

    #[inline(always)]
    fn follow(self, at: Offset) -> Option<Self> {
        pointer(self.0, at).map(Self)
    }
}

/// Read with plain loads: a pointer whose type the verifier knows (an argument of a `tp_btf`
/// program, or what such a pointer leads to). A load that faults gives 0 instead.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Typed {
    /// # Safety
    ///
    /// `pointer` must be one whose type the verifier knows from BTF. It refuses the program
    /// otherwise, and any load outside of that type.
    #[inline(always)]
    pub(crate) const unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }
}

impl Structure for Typed {
    #[inline(always)]
    fn get<T: Copy>(self, at: Offset) -> Option<T> {
        let at = offset(at)?;
        // SAFETY: the constructor's promise; the kernel's compiler aligns each member to its size,
        // and a fault is handled by the kernel (the load gives 0).
        Some(unsafe { self.0.wrapping_add(at).cast::<T>().read_volatile() })
    }

    #[inline(always)]
    fn follow(self, at: Offset) -> Option<Self> {
        let pointer: *const u8 = self.get(at)?;
        if pointer.is_null() { None } else { Some(Self(pointer)) }
    }
}

/// A copy of `pointer` that is any number to the verifier: it forbids to calculate with a pointer
/// whose type it knows, and knows nothing of what a helper has written. Null where that fails.
#[inline(always)]
pub(crate) fn untyped(pointer: *const u8) -> *const u8 {
    // SAFETY: the source is this frame's own; the helper checks it all the same.
    unsafe { bpf_probe_read_kernel(&raw const pointer) }.unwrap_or(core::ptr::null())
}

/// Reads a member of kernel memory; `None` when this kernel has no such member or no such page.
#[inline(always)]
pub(crate) fn member<T>(base: *const u8, at: Offset) -> Option<T> {
    let at = offset(at)?;
    // SAFETY: `bpf_probe_read_kernel` checks every address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(at).cast::<T>()) }.ok()
}

/// Reads a pointer member; `None` for a null one too.
#[inline(always)]
pub(crate) fn pointer(base: *const u8, at: Offset) -> Option<*const u8> {
    let pointer: *const u8 = member(base, at)?;
    if pointer.is_null() { None } else { Some(pointer) }
}
