//! `ComputerRow`: one row of Microsoft's `VMComputer`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::stable_id::stable_id;

/// One `VMComputer` row. Text that is absent is "", a number or time null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputerRow {
    /// When the columns were read, UTC.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID.
    pub agent_id: String,
    /// `m-` and the agent's UUID.
    pub machine: String,
    /// Same as `Computer`.
    pub display_name: String,
    /// Same as `Computer`.
    pub full_display_name: String,
    /// `Computer` up to its first dot.
    pub host_name: String,
    /// `Computer`, and what `/etc/hosts` names it.
    pub dns_names: Vec<String>,
    /// When the kernel started (`btime` of `/proc/stat`, whole seconds).
    pub boot_time: Option<Timestamp>,
    /// The zone's name (`Europe/Oslo`).
    pub time_zone: String,
    /// Always `linux`.
    pub operating_system_family: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system_full_name: String,
    /// The agent's own version.
    pub dependency_agent_version: String,
    /// Logical processors that are online.
    pub cpus: Option<u32>,
    /// Their speed, MHz: as sold where the kernel knows it, the highest, or the present one.
    pub cpu_speed: Option<u32>,
    /// Memory that the kernel manages, MiB.
    #[serde(rename = "PhysicalMemoryMB")]
    pub physical_memory_mb: Option<u64>,
    /// Addresses, those of loopback interfaces left out.
    pub ipv4_addresses: Vec<String>,
    /// Their networks' masks, in the same order.
    pub ipv4_subnet_masks: Vec<String>,
    /// Next hops of the default routes.
    pub ipv4_default_gateways: Vec<String>,
    /// Addresses, those of loopback interfaces left out.
    pub ipv6_addresses: Vec<String>,
    /// Extension: next hops of the default routes.
    pub ipv6_default_gateways: Vec<String>,
    /// Hardware addresses.
    pub mac_addresses: Vec<String>,
    /// `physical`, `virtual`, `hypervisor` or `unknown`.
    pub virtualization_state: String,
    /// `hyperv`, `vmware`, `xen`, `kvm`, …
    pub virtual_machine_type: String,
    /// The machine's id as its hypervisor gave it (the firmware's UUID).
    pub virtual_machine_native_id: String,
    /// The machine's name as its hypervisor knows it (Hyper-V tells it).
    pub virtual_machine_native_name: String,
    /// The hypervisor that runs this machine, where it tells (Hyper-V: the host's name).
    pub virtual_machine_hypervisor_id: String,
    /// What hypervisor this machine is.
    pub hypervisor_type: String,
    /// Its id; nothing tells it.
    pub hypervisor_id: String,
    /// `azure`, or "".
    pub hosting_provider: String,
    /// What Azure says of its machine.
    #[serde(flatten)]
    pub azure: Azure,
    /// The kind of agent that reports.
    pub source_system: String,
    /// Id of the machine in Azure, in lower case.
    #[serde(rename = "_ResourceId")]
    pub resource_id: String,
    /// Id of its subscription.
    #[serde(rename = "_SubscriptionId")]
    pub subscription_id: String,
    /// Always `VMComputer`.
    pub r#type: String,
}

impl ComputerRow {
    /// Stable: the same row has the same id wherever and however often it is sent.
    pub fn id(&self) -> String {
        stable_id(&[&self.machine, &self.r#type, &self.time_generated.to_string()])
    }
}

/// The `Azure…` columns of `VMComputer`; "" where Azure says nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Azure {
    /// Subscription that the machine belongs to.
    pub azure_subscription_id: String,
    /// Its resource group.
    pub azure_resource_group: String,
    /// Its name there.
    pub azure_resource_name: String,
    /// Region, as `westeurope`.
    pub azure_location: String,
    /// Update domain.
    pub azure_update_domain: String,
    /// Fault domain.
    pub azure_fault_domain: String,
    /// Unique id of the virtual machine.
    pub azure_vm_id: String,
    /// Size, as `Standard_D4s_v5`.
    pub azure_size: String,
    /// Publisher of the image.
    pub azure_image_publisher: String,
    /// Offer of the image.
    pub azure_image_offering: String,
    /// Plan of the image.
    pub azure_image_sku: String,
    /// Version of the image.
    pub azure_image_version: String,
    /// Cloud service; instance metadata does not name it.
    pub azure_cloud_service_name: String,
    /// Its deployment; likewise.
    pub azure_cloud_service_deployment: String,
    /// Its role; likewise.
    pub azure_cloud_service_role_name: String,
    /// Its kind of role; likewise.
    pub azure_cloud_service_role_type: String,
    /// Its instance; likewise.
    pub azure_cloud_service_instance_id: String,
    /// Scale set that the machine is in.
    pub azure_vm_scale_set_name: String,
    /// Placement group in it.
    pub azure_vm_scale_set_deployment: String,
    /// Resource id of the scale set.
    pub azure_vm_scale_set_resource_id: String,
    /// The machine's number in the scale set.
    pub azure_vm_scale_set_instance_id: String,
    /// Service Fabric cluster; instance metadata has no id of it.
    pub azure_service_fabric_cluster_id: String,
    /// Its name, from the tags that Service Fabric puts on its machines.
    pub azure_service_fabric_cluster_name: String,
    /// Resource id of the machine, as given; not a column of its own.
    #[serde(skip)]
    pub resource_id: String,
}

/// What the standard columns `_ResourceId` and `_SubscriptionId` of every table say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// Resource id of the machine, in lower case as the tables have it.
    pub id: String,
    /// Id of its subscription.
    pub subscription: String,
}

impl Azure {
    /// What the standard columns say.
    pub fn resource(&self) -> Resource {
        Resource {
            id: self.resource_id.to_ascii_lowercase(),
            subscription: self.azure_subscription_id.clone(),
        }
    }
}
