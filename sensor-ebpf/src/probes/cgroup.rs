//! Path and id of each new cgroup. A connection carries the id of its task's cgroup, and the path
//! names the container.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{CGROUP_PATH_LEN, CgroupRecord, RecordKind};

use crate::emit::{self, Ledger};
use crate::kernel::{read_member, read_pointer};

/// Hook: `TP_PROTO(struct cgroup *cgrp, const char *path)`, `include/trace/events/cgroup.h`,
/// `cgroup_mkdir`, v4.15 and later; called in `kernel/cgroup/cgroup.c: cgroup_mkdir`.
///
/// Hierarchies of version 1 are skipped, since their ids are separate. Cgroup v2:
/// `Documentation/admin-guide/cgroup-v2.rst`; id: `bpf_get_current_cgroup_id`, `bpf-helpers(7)`.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub(crate) fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    let (cgroup, path): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    let hierarchy: Option<i32> = read_pointer(cgroup, Offset::CgroupRoot)
        .and_then(|root| read_member(root, Offset::CgroupRootHierarchyId));
    let id: Option<u64> =
        read_pointer(cgroup, Offset::CgroupKn).and_then(|node| read_member(node, Offset::KernfsId));
    let (Some(0), Some(id)) = (hierarchy, id) else { return 0 };
    emit::record::<CgroupRecord>(Ledger::Process, |record| {
        // SAFETY: `record` is the reserved entry, a whole CgroupRecord. The helper writes at most
        // the size of `path` and checks every address that it reads. It may leave bytes after the
        // NUL unchanged, so all are zeroed first.
        unsafe {
            (*record).header = emit::header::<CgroupRecord>(RecordKind::CgroupMkdir, 0);
            (*record).id = id;
            let path_words = (&raw mut (*record).path).cast::<[u64; CGROUP_PATH_LEN / 8]>();
            path_words.write([0; CGROUP_PATH_LEN / 8]);
            let to = path_words.cast();
            let _truncated = bpf_probe_read_kernel_str(to, CGROUP_PATH_LEN as u32, path.cast());
        }
    });
    0
}
