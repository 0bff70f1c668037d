//! Offsets of kernel structure members, from `/sys/kernel/btf/vmlinux`
//! ([BTF](https://docs.kernel.org/bpf/btf.html)).
//!
//! Programs are not relocated (Rust emits no CO-RE): the agent resolves each member that they read,
//! and passes the table at load. An absent member stays [`MISSING`]; its name is kept for the
//! report of missing members.

use std::path::{Path, PathBuf};

use btf_rs::{Backend, Btf, BtfType, Member, Type};
use sensor_ebpf::offsets::{MEMBERS, MISSING, OFFSET_COUNT};

/// Path of the kernel's own type information (BTF).
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Members of a feature that a kernel may be built without. There is then nothing to read.
const OPTIONAL: [&str; 2] = ["mptcp_subflow_context.conn", "tcp_sock.is_mptcp"];

/// Error of reading BTF: no offset is known.
#[derive(Debug, thiserror::Error)]
#[error(
    "kernel type information {}: {detail}; without it byte counts, executables and arguments are \
     not known (it needs a kernel with CONFIG_DEBUG_INFO_BTF; see capture.btf)",
    path.display()
)]
pub struct BtfError {
    path: PathBuf,
    /// Error of the parser, without its sources, which only repeat it.
    detail: String,
}

/// Facts about the running kernel, from BTF.
#[derive(Debug, Clone)]
pub struct KernelTypes {
    /// Offset of each of [`MEMBERS`], in bytes, or [`MISSING`].
    pub offsets: [u32; OFFSET_COUNT],
    /// Members that this kernel does not have, as `structure.member`.
    pub missing: Vec<String>,
    /// Number of parameters of `inet_csk_accept`: 4 up to v6.9, 2 since; `None` if it is absent.
    pub accept_parameters: Option<usize>,
}

impl KernelTypes {
    /// Reads the BTF file at `path`.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let error =
            |error: btf_rs::Error| BtfError { path: path.to_owned(), detail: error.to_string() };
        // A mapping takes the least memory, but the file in sysfs can be mapped only since v6.16.
        let btf = Btf::from_file_with_backend(path, Backend::Mmap)
            .or_else(|_not_mapped| Btf::from_file(path))
            .map_err(error)?;
        let mut offsets = [MISSING; OFFSET_COUNT];
        let mut missing = Vec::new();
        for ((_, structure, members), slot) in MEMBERS.iter().zip(&mut offsets) {
            match member_offset(&btf, structure, members) {
                Some(offset) => *slot = offset,
                None => missing.push(format!("{structure}.{}", members.join("."))),
            }
        }
        missing.retain(|member| !OPTIONAL.contains(&member.as_str()));
        let accept_parameters = parameter_count(&btf, "inet_csk_accept");
        Ok(Self { offsets, missing, accept_parameters })
    }

    /// Facts about a kernel without BTF.
    pub fn unknown() -> Self {
        Self { offsets: [MISSING; OFFSET_COUNT], missing: Vec::new(), accept_parameters: None }
    }

    /// True if the offset of a member is known.
    pub fn has(&self, member: sensor_ebpf::offsets::Offset) -> bool {
        self.offsets.get(member as usize).is_some_and(|offset| *offset != MISSING)
    }
}

/// Returns the offset of a member path from the start of `structure`, bytes.
fn member_offset(btf: &Btf, structure: &str, members: &[&str]) -> Option<u32> {
    let types = btf.resolve_types_by_name(structure).ok()?;
    let mut structure = types.into_iter().find_map(|found| match found {
        Type::Struct(structure) if !structure.members.is_empty() => Some(structure),
        _ => None,
    })?;
    let mut bits = 0;
    let mut rest = members.iter();
    let mut name = rest.next()?;
    loop {
        let (member, at) = find_member(btf, &structure, name)?;
        bits += at;
        match rest.next() {
            None => return Some(bits / 8),
            Some(next) => {
                structure = as_structure(btf, &member)?;
                name = next;
            }
        }
    }
}

/// Finds the member `name`, also in anonymous structures and unions, and its bit offset.
fn find_member(btf: &Btf, structure: &btf_rs::Struct, name: &str) -> Option<(Member, u32)> {
    for member in &structure.members {
        let member_name = btf.resolve_name(member).unwrap_or_default();
        if member_name == name {
            return Some((member.clone(), member.bit_offset()));
        }
        if member_name.is_empty()
            && let Some(inner) = as_structure(btf, member)
            && let Some((found, at)) = find_member(btf, &inner, name)
        {
            return Some((found, member.bit_offset() + at));
        }
    }
    None
}

/// The structure or union that is the type of a member, without typedefs and qualifiers.
fn as_structure(btf: &Btf, member: &Member) -> Option<btf_rs::Struct> {
    let mut found = btf.resolve_chained_type(member as &dyn BtfType).ok()?;
    loop {
        found = match &found {
            Type::Struct(inner) | Type::Union(inner) => return Some(inner.clone()),
            Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) => {
                btf.resolve_chained_type(found.as_btf_type()?).ok()?
            }
            _ => return None,
        };
    }
}

fn parameter_count(btf: &Btf, function: &str) -> Option<usize> {
    btf.resolve_types_by_name(function).ok()?.into_iter().find_map(|found| match found {
        Type::Func(function) => match btf.resolve_chained_type(&function).ok()? {
            Type::FuncProto(prototype) => Some(prototype.parameters.len()),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_ebpf::offsets::Offset;

    #[test]
    fn members_of_the_running_kernel_are_found() {
        let path = Path::new(VMLINUX_BTF);
        if !path.exists() {
            println!("SKIPPED members_of_the_running_kernel_are_found: no {VMLINUX_BTF}");
            return;
        }
        let types = KernelTypes::read(path).unwrap();
        assert_eq!(types.offsets[Offset::SkDaddr as usize], 0);
        assert_eq!(types.offsets[Offset::SkRcvSaddr as usize], 4);
        assert_eq!(types.missing, Vec::<String>::new());
        assert!(matches!(types.accept_parameters, Some(2 | 4)), "{:?}", types.accept_parameters);
    }

    #[test]
    fn a_file_that_is_no_btf_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not type information").unwrap();
        let text = KernelTypes::read(file.path()).unwrap_err().to_string();
        assert!(text.contains(&file.path().display().to_string()), "{text}");
    }
}
