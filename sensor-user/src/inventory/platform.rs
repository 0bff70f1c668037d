//! Virtualization of the machine: physical, a guest of a known hypervisor, or a hypervisor itself.

use std::path::Path;

use super::files;

/// `chassis_asset_tag` of every virtual machine of Azure.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// True if the firmware identifies a virtual machine of Azure.
pub fn is_azure(root: &Path) -> bool {
    dmi(root, "chassis_asset_tag") == AZURE_ASSET_TAG
}

/// The virtualization columns of `VMComputer`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Platform {
    /// `physical`, `virtual`, `hypervisor` or `unknown`.
    pub(super) state: &'static str,
    /// `hyperv`, `vmware`, `xen`, `kvm`, …; "" if unknown, or if it is not a virtual machine.
    pub(super) machine_type: &'static str,
    /// The machine's id, assigned by its hypervisor.
    pub(super) native_id: String,
    /// The machine's name in its hypervisor.
    pub(super) native_name: String,
    /// The name of the hypervisor's host, if the hypervisor provides it.
    pub(super) host_name: String,
    /// The hypervisor that runs on this machine, if any.
    pub(super) hypervisor_type: &'static str,
}

impl Platform {
    /// Reads the firmware's tables first, then the files of the kernel and the processor's flags.
    pub(super) fn read(root: &Path) -> Self {
        // Firmware and processor of Xen's control domain resemble those of a guest.
        if files::text(root, "proc/xen/capabilities").contains("control_d") {
            return Self { state: "hypervisor", hypervisor_type: "xen", ..Self::default() };
        }
        let Some(machine_type) = guest_of(root) else {
            return Self { state: non_guest_state(root), ..Self::default() };
        };
        let pool = KvpPool::read(root);
        Self {
            state: "virtual",
            machine_type,
            native_id: dmi(root, "product_uuid").to_ascii_lowercase(),
            native_name: pool.get("VirtualMachineName"),
            host_name: pool.get("PhysicalHostName"),
            hypervisor_type: "",
        }
    }
}

fn dmi(root: &Path, name: &str) -> String {
    files::value(root, &format!("sys/class/dmi/id/{name}"))
}

/// Hypervisor of this machine ("" if unknown); `None` without evidence of a hypervisor.
fn guest_of(root: &Path) -> Option<&'static str> {
    let product = dmi(root, "product_name");
    let vendor = dmi(root, "sys_vendor");
    // Amazon's bare-metal machines have the same vendor as its virtual machines.
    if vendor == "Amazon EC2" && product.contains(".metal") {
        return None;
    }
    if vendor == "Microsoft Corporation" && product == "Virtual Machine" {
        return Some("hyperv");
    }
    let tables = [vendor, product, dmi(root, "board_vendor"), dmi(root, "bios_vendor")].join("\n");
    let named =
        HYPERVISOR_MARKERS.iter().find(|(mark, _)| tables.contains(mark)).map(|(_, name)| *name);
    if named.is_some() {
        return named;
    }
    if files::value(root, "sys/hypervisor/type") == "xen" {
        return Some("xen");
    }
    let tree = files::text(root, "proc/device-tree/hypervisor/compatible");
    if tree.contains("kvm") {
        return Some("kvm");
    }
    let flags = cpu_flags(root);
    (!tree.is_empty() || flags.is_some_and(|flags| flags.contains(&"hypervisor".to_owned())))
        .then_some("")
}

/// Words in the firmware's tables, and the hypervisors that write them.
const HYPERVISOR_MARKERS: [(&str, &str); 13] = [
    ("KVM", "kvm"),
    ("QEMU", "kvm"),
    ("Amazon EC2", "kvm"),
    ("Google Compute Engine", "kvm"),
    ("OpenStack", "kvm"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "virtualbox"),
    ("VirtualBox", "virtualbox"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Bochs", "bochs"),
];

/// State of a machine without evidence of a hypervisor. It is physical if the firmware names its
/// manufacturer and the processor would report a hypervisor (on x86-64: it lists flags).
fn non_guest_state(root: &Path) -> &'static str {
    let has_vendor = !dmi(root, "sys_vendor").is_empty();
    if has_vendor && (cpu_flags(root).is_some() || cfg!(not(target_arch = "x86_64"))) {
        return "physical";
    }
    "unknown"
}

/// The first processor's flags; `None` if `/proc/cpuinfo` has none.
fn cpu_flags(root: &Path) -> Option<Vec<String>> {
    let text = files::text(root, "proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("flags"))?;
    let (_, flags) = line.split_once(':')?;
    Some(flags.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Key-value pairs that the host of a Hyper-V guest provides (pool 3 of `hv_kvp_daemon`): records of a
/// key and a value of fixed lengths, padded with zeros.
struct KvpPool(Vec<u8>);

impl KvpPool {
    fn read(root: &Path) -> Self {
        Self(files::bytes(root, "var/lib/hyperv/.kvp_pool_3").unwrap_or_default())
    }

    fn get(&self, key: &str) -> String {
        const KEY_LEN: usize = 512;
        const VALUE_LEN: usize = 2048;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            files::clean(&String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()))
        };
        let mut records = self.0.chunks_exact(KEY_LEN + VALUE_LEN);
        records
            .find_map(|record| {
                let (name, value) = record.split_at_checked(KEY_LEN)?;
                (text(name) == key).then(|| text(value))
            })
            .unwrap_or_default()
    }
}
