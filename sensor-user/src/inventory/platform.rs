//! What the machine is made of: physical, virtual and by what, or a hypervisor itself.

use std::path::Path;

use super::files;

/// `chassis_asset_tag` of every virtual machine of Azure.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Whether the firmware says that this is a virtual machine of Azure.
pub fn is_azure(root: &Path) -> bool {
    dmi(root, "chassis_asset_tag") == AZURE_ASSET_TAG
}

/// The virtualization columns of `VMComputer`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Platform {
    /// `physical`, `virtual`, `hypervisor` or `unknown`.
    pub(super) state: &'static str,
    /// `hyperv`, `vmware`, `xen`, `kvm`, …; "" where unknown, or where it is no virtual machine.
    pub(super) machine_type: &'static str,
    /// The machine's id as its hypervisor gave it.
    pub(super) native_id: String,
    /// The machine's name as its hypervisor knows it.
    pub(super) native_name: String,
    /// The name of the hypervisor's host, where it tells.
    pub(super) host_name: String,
    /// What hypervisor this machine is.
    pub(super) hypervisor_type: &'static str,
}

impl Platform {
    /// Reads it: from the firmware's tables, then from what the kernel and the processor say.
    pub(super) fn read(root: &Path) -> Self {
        // The control domain of Xen sees itself as a guest.
        if files::text(root, "proc/xen/capabilities").contains("control_d") {
            return Self { state: "hypervisor", hypervisor_type: "xen", ..Self::default() };
        }
        let Some(machine_type) = guest_of(root) else {
            return Self { state: no_guest(root), ..Self::default() };
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

/// What runs this machine ("" where that is not known); `None` where nothing says that anything does.
fn guest_of(root: &Path) -> Option<&'static str> {
    let product = dmi(root, "product_name");
    let vendor = dmi(root, "sys_vendor");
    // Amazon's machines without a hypervisor have the vendor of those with one.
    if vendor == "Amazon EC2" && product.contains(".metal") {
        return None;
    }
    if vendor == "Microsoft Corporation" && product == "Virtual Machine" {
        return Some("hyperv");
    }
    let tables = [vendor, product, dmi(root, "board_vendor"), dmi(root, "bios_vendor")].join("\n");
    let named = MARKS.iter().find(|(mark, _)| tables.contains(mark)).map(|(_, name)| *name);
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

/// Words in the firmware's tables, and who writes them there.
const MARKS: [(&str, &str); 13] = [
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

/// Of a machine that is no guest: a firmware that names its maker, and a processor that would say
/// if it were virtual, make it physical.
fn no_guest(root: &Path) -> &'static str {
    let told = !dmi(root, "sys_vendor").is_empty();
    if told && (cpu_flags(root).is_some() || cfg!(not(target_arch = "x86_64"))) {
        return "physical";
    }
    "unknown"
}

/// The first processor's flags; `None` where it lists none.
fn cpu_flags(root: &Path) -> Option<Vec<String>> {
    let text = files::text(root, "proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("flags"))?;
    let (_, flags) = line.split_once(':')?;
    Some(flags.split_ascii_whitespace().map(str::to_owned).collect())
}

/// What the host of a Hyper-V guest tells it (`hv_kvp_daemon`'s pool 3): records of a key and a
/// value of fixed lengths, filled with zeros.
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
