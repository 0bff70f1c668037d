//! Test machines: physical, virtual, in Azure, in a container, and with malformed files.

use super::*;

use std::fs;

/// Directory tree with these files; `link` is the target of `/etc/localtime`.
fn machine(files: &[(&str, &str)], link: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    if !link.is_empty() {
        fs::create_dir_all(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(link, root.path().join("etc/localtime")).unwrap();
    }
    root
}

fn read(root: &Path) -> ComputerRow {
    let host =
        Host { root: root.to_owned(), computer: "web01.example.net".into(), agent_id: "id".into() };
    host.read(Timestamp::UNIX_EPOCH, &[], None)
}

fn virtualization(row: &ComputerRow) -> (&str, &str) {
    (&row.virtualization_state, &row.virtual_machine_type)
}

const CPU: &str = "processor\t: 0\nflags\t\t: fpu vme\ncpu MHz\t\t: 2596.134\n\nprocessor\t: 1\n";
const GUEST_CPU: &str = "processor\t: 0\nflags\t\t: fpu vme hypervisor\n";

#[test]
fn a_physical_machine() {
    let root = machine(
        &[
            ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
            ("sys/class/dmi/id/product_name", "PowerEdge R650\n"),
            ("proc/cpuinfo", CPU),
            ("sys/devices/system/cpu/online", "0-3,6\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3500000\n"),
            ("proc/meminfo", "MemTotal:       24680000 kB\nMemFree: 1 kB\n"),
            ("proc/stat", "cpu  1 2 3\nbtime 1764000000\n"),
            ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            (
                "etc/hosts",
                "127.0.0.1 localhost\n127.0.1.1 web01.example.net web01 # own\n\
                 192.0.2.9 www.example.net WEB01\n192.0.2.10 other\nweb01 is here\n",
            ),
        ],
        "/usr/share/zoneinfo/Europe/Oslo",
    );
    let row = read(root.path());
    assert_eq!(virtualization(&row), ("physical", ""));
    assert_eq!(
        (row.cpus, row.cpu_speed, row.physical_memory_mb),
        (Some(5), Some(3500), Some(24_101))
    );
    assert_eq!(row.boot_time, Timestamp::from_second(1_764_000_000).ok());
    assert_eq!(row.operating_system_full_name, "Debian GNU/Linux 12 (bookworm)");
    assert_eq!(row.time_zone, "Europe/Oslo");
    assert_eq!((row.host_name.as_str(), row.machine.as_str()), ("web01", "m-id"));
    assert_eq!(row.dns_names, ["web01.example.net", "web01", "www.example.net", "WEB01"]);
    assert_eq!((row.hosting_provider.as_str(), row.resource_id.as_str()), ("", ""));
    // Amazon's machines without a hypervisor are named as those with one.
    fs::write(root.path().join("sys/class/dmi/id/sys_vendor"), "Amazon EC2\n").unwrap();
    assert_eq!(virtualization(&read(root.path())), ("virtual", "kvm"));
    fs::write(root.path().join("sys/class/dmi/id/product_name"), "m5.metal\n").unwrap();
    assert_eq!(virtualization(&read(root.path())), ("physical", ""));
}

#[test]
fn a_guest_of_kvm() {
    let root = machine(
        &[
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n"),
            ("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8052-B4C04F4E3132\n"),
            ("proc/cpuinfo", GUEST_CPU),
            ("etc/timezone", "Etc/UTC\n"),
        ],
        "",
    );
    let row = read(root.path());
    assert_eq!(virtualization(&row), ("virtual", "kvm"));
    assert_eq!(row.virtual_machine_native_id, "4c4c4544-0042-3510-8052-b4c04f4e3132");
    assert_eq!((row.cpus, row.cpu_speed, row.time_zone.as_str()), (Some(1), None, "Etc/UTC"));
}

#[test]
fn a_machine_of_azure() {
    let record = |key: &str, value: &str| format!("{key:\0<512}{value:\0<2048}");
    let pool = record("HostName", "x")
        + &record("VirtualMachineName", "web01")
        + &record("PhysicalHostName", "H7");
    let root = machine(
        &[
            ("sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n"),
            ("sys/class/dmi/id/product_name", "Virtual Machine\n"),
            ("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n"),
            ("proc/cpuinfo", GUEST_CPU),
            ("var/lib/hyperv/.kvp_pool_3", &pool),
        ],
        "",
    );
    assert!(is_azure(root.path()));
    let row = read(root.path());
    assert_eq!(virtualization(&row), ("virtual", "hyperv"));
    assert_eq!(row.virtual_machine_native_name, "web01");
    assert_eq!(row.virtual_machine_hypervisor_id, "H7");
    assert_eq!((row.hosting_provider.as_str(), row.azure.azure_vm_id.as_str()), ("azure", ""));
}

#[test]
fn a_hypervisor_and_a_container_with_few_files() {
    let dom0 = machine(
        &[
            ("proc/xen/capabilities", "control_d\n"),
            ("sys/hypervisor/type", "xen\n"),
            ("proc/cpuinfo", GUEST_CPU),
        ],
        "",
    );
    let row = read(dom0.path());
    assert_eq!(virtualization(&row), ("hypervisor", ""));
    assert_eq!(row.hypervisor_type, "xen");
    let container = machine(&[("proc/cpuinfo", GUEST_CPU), ("etc/os-release", "ID=alpine\n")], "");
    let row = read(container.path());
    assert_eq!(virtualization(&row), ("virtual", ""));
    assert_eq!((row.operating_system_full_name.as_str(), row.boot_time), ("", None));
}

#[test]
fn files_that_are_missing_or_garbage_leave_their_columns_empty() {
    let garbage = "\0\u{1b}[31m::==,-\u{fffd}\n".repeat(3);
    let files = [
        "proc/cpuinfo",
        "proc/meminfo",
        "proc/stat",
        "proc/net/route",
        "proc/net/ipv6_route",
        "proc/device-tree/hypervisor/compatible",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/cpu0/cpufreq/base_frequency",
        "etc/os-release",
        "etc/hosts",
        "var/lib/hyperv/.kvp_pool_3",
    ];
    let root = machine(&files.map(|path| (path, garbage.as_str())), "nowhere");
    // A directory instead of a file.
    fs::create_dir_all(root.path().join("sys/class/dmi/id/sys_vendor")).unwrap();
    let (malformed, empty) = (read(root.path()), read(&root.path().join("nothing")));
    assert_eq!(empty.virtualization_state, "unknown");
    for row in [malformed, empty] {
        assert_eq!(
            (row.cpus, row.cpu_speed, row.physical_memory_mb),
            (None, None, None),
            "{row:?}"
        );
        assert_eq!((row.boot_time, row.time_zone.as_str()), (None, ""));
        assert_eq!(row.dns_names, ["web01.example.net"]);
        assert!(row.ipv4_default_gateways.is_empty() && row.virtual_machine_native_id.is_empty());
    }
}
