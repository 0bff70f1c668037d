//! Columns of `VMComputer`, read from the host's files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::files;
use super::network::{InterfaceAddress, Network, names};
use super::platform::{Platform, is_azure};
use crate::schema::{Azure, ComputerRow, SOURCE_SYSTEM};

/// Host whose inventory is read from its files.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/`, or the directory tree of a test.
    pub root: PathBuf,
    /// Fully qualified name of the host.
    pub computer: Arc<str>,
    /// The agent's UUID.
    pub agent_id: String,
}

impl Host {
    /// Reads the host's files, and returns the row of `now`. `azure` is the latest metadata, if any.
    pub fn read(
        &self,
        now: Timestamp,
        addresses: &[InterfaceAddress],
        azure: Option<&Azure>,
    ) -> ComputerRow {
        let root = self.root.as_path();
        let computer = self.computer.to_string();
        let platform = Platform::read(root);
        let network = Network::read(root, addresses);
        let resource = azure.map(Azure::resource).unwrap_or_default();
        let hosted = azure.is_some() || is_azure(root);
        ComputerRow {
            time_generated: now,
            agent_id: self.agent_id.clone(),
            machine: format!("m-{}", self.agent_id),
            display_name: computer.clone(),
            full_display_name: computer.clone(),
            host_name: computer.split('.').next().unwrap_or_default().to_owned(),
            dns_names: names(root, &computer),
            computer,
            boot_time: boot_time(root),
            time_zone: time_zone(root),
            operating_system_family: "linux".to_owned(),
            operating_system_full_name: os_name(root),
            dependency_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            cpus: cpus(root),
            cpu_speed: cpu_speed(root),
            physical_memory_mb: memory_mb(root),
            ipv4_addresses: network.v4,
            ipv4_subnet_masks: network.v4_masks,
            ipv4_default_gateways: network.v4_gateways,
            ipv6_addresses: network.v6,
            ipv6_default_gateways: network.v6_gateways,
            mac_addresses: network.macs,
            virtualization_state: platform.state.to_owned(),
            virtual_machine_type: platform.machine_type.to_owned(),
            virtual_machine_native_id: platform.native_id,
            virtual_machine_native_name: platform.native_name,
            virtual_machine_hypervisor_id: platform.host_name,
            hypervisor_type: platform.hypervisor_type.to_owned(),
            hypervisor_id: String::new(),
            hosting_provider: if hosted { "azure" } else { "" }.to_owned(),
            azure: azure.cloned().unwrap_or_default(),
            source_system: SOURCE_SYSTEM.to_owned(),
            resource_id: resource.id,
            subscription_id: resource.subscription,
            r#type: "VMComputer".to_owned(),
        }
    }
}

/// The rest of the first line of `text` that begins with the word `name`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '\t', ':', '='])
            .then(|| rest.trim_start_matches([' ', '\t', ':', '=']))
    })
}

fn boot_time(root: &Path) -> Option<Timestamp> {
    let stat = files::text(root, "proc/stat");
    Timestamp::from_second(field(&stat, "btime")?.trim().parse().ok()?).ok()
}

/// Name in Debian's `/etc/timezone`, or that in the target of the link `/etc/localtime`.
fn time_zone(root: &Path) -> String {
    let named = files::value(root, "etc/timezone");
    if !named.is_empty() {
        return named;
    }
    let link = std::fs::read_link(root.join("etc/localtime")).unwrap_or_default();
    let link = link.to_string_lossy();
    link.split_once("zoneinfo/").map(|(_, zone)| files::clean(zone)).unwrap_or_default()
}

/// `PRETTY_NAME` of os-release(5): in the host's file, else in the vendor's.
fn os_name(root: &Path) -> String {
    let named = |path: &str| {
        let text = files::text(root, path);
        let value = field(&text, "PRETTY_NAME")?.trim();
        let bare = value.trim_matches(['"', '\'']).replace("\\\"", "\"");
        Some(files::clean(&bare)).filter(|name| !name.is_empty())
    };
    named("etc/os-release").or_else(|| named("usr/lib/os-release")).unwrap_or_default()
}

/// Number of processors in the list of online ones (as `0-3,6`), else in `/proc/cpuinfo`.
fn cpus(root: &Path) -> Option<u32> {
    let online = files::value(root, "sys/devices/system/cpu/online");
    let of_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let listed = online.split(',').try_fold(0_u32, |sum, range| sum.checked_add(of_range(range)?));
    listed.or_else(|| {
        let text = files::text(root, "proc/cpuinfo");
        let count = text.lines().filter(|line| line.starts_with("processor\t")).count();
        u32::try_from(count).ok().filter(|count| *count > 0)
    })
}

fn cpu_speed(root: &Path) -> Option<u32> {
    let khz = |name: &str| {
        let khz = files::number(root, &format!("sys/devices/system/cpu/cpu0/cpufreq/{name}"))?;
        u32::try_from(khz / 1000).ok()
    };
    khz("base_frequency").or_else(|| khz("cpuinfo_max_freq")).or_else(|| {
        let text = files::text(root, "proc/cpuinfo");
        let (whole, _) = field(&text, "cpu MHz")?.split_once('.')?;
        whole.parse().ok()
    })
}

fn memory_mb(root: &Path) -> Option<u64> {
    let text = files::text(root, "proc/meminfo");
    let kib: u64 = field(&text, "MemTotal")?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests;
