//! `ComputerRow`: one row of Microsoft's `VMComputer`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Table, row};
use crate::base::stable_id::stable_id;

row! {
    /// One `VMComputer` row. Absent text is "", an absent number or time null.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct ComputerRow {
        /// Time at which the columns were read, UTC.
        time_generated: Timestamp = "TimeGenerated",
        /// Full name of the host.
        computer: String = "Computer",
        /// UUID of the agent.
        agent_id: String = "AgentId",
        /// `m-` and the agent's UUID.
        machine: String = "Machine",
        /// Same as `Computer`.
        display_name: String = "DisplayName",
        /// Same as `Computer`.
        full_display_name: String = "FullDisplayName",
        /// `Computer` up to its first dot.
        host_name: String = "HostName",
        /// `Computer`, and its names in `/etc/hosts`.
        dns_names: Vec<String> = "DnsNames",
        /// Start time of the kernel (`btime` of `/proc/stat`, whole seconds).
        boot_time: Option<Timestamp> = "BootTime",
        /// Name of the time zone (`Europe/Oslo`).
        time_zone: String = "TimeZone",
        /// Always `linux`.
        operating_system_family: String = "OperatingSystemFamily",
        /// `PRETTY_NAME` of os-release.
        operating_system_full_name: String = "OperatingSystemFullName",
        /// Version of the agent.
        dependency_agent_version: String = "DependencyAgentVersion",
        /// Logical processors that are online.
        cpus: Option<u32> = "Cpus",
        /// CPU speed in MHz: nominal if the kernel knows it, else maximum, else current.
        cpu_speed: Option<u32> = "CpuSpeed",
        /// Memory that the kernel manages, MiB.
        physical_memory_mb: Option<u64> = "PhysicalMemoryMB",
        /// IPv4 addresses, without those of loopback interfaces.
        ipv4_addresses: Vec<String> = "Ipv4Addresses",
        /// Subnet masks of the addresses, in the same order.
        ipv4_subnet_masks: Vec<String> = "Ipv4SubnetMasks",
        /// Next hops of the IPv4 default routes.
        ipv4_default_gateways: Vec<String> = "Ipv4DefaultGateways",
        /// IPv6 addresses, without those of loopback interfaces.
        ipv6_addresses: Vec<String> = "Ipv6Addresses",
        /// Next hops of the IPv6 default routes.
        ipv6_default_gateways: Vec<String> = extension "Ipv6DefaultGateways",
        /// Hardware addresses of the interfaces.
        mac_addresses: Vec<String> = "MacAddresses",
        /// `physical`, `virtual`, `hypervisor` or `unknown`.
        virtualization_state: String = "VirtualizationState",
        /// `hyperv`, `vmware`, `xen`, `kvm`, …
        virtual_machine_type: String = "VirtualMachineType",
        /// Id of the machine from its hypervisor (the firmware's UUID).
        virtual_machine_native_id: String = "VirtualMachineNativeId",
        /// Name of the machine in its hypervisor, if reported (by Hyper-V).
        virtual_machine_native_name: String = "VirtualMachineNativeName",
        /// Hypervisor that runs this machine, if reported (Hyper-V: the host's name).
        virtual_machine_hypervisor_id: String = "VirtualMachineHypervisorId",
        /// Kind of hypervisor that this machine is.
        hypervisor_type: String = "HypervisorType",
        /// Id of that hypervisor; never known here.
        hypervisor_id: String = "HypervisorId",
        /// `azure`, or "".
        hosting_provider: String = "HostingProvider",
        /// The `Azure…` columns.
        #[serde(flatten)]
        azure: Azure = columns of Azure,
        /// Always `netsensor`.
        source_system: String = "SourceSystem",
        /// Resource id of the machine in Azure, in lower case.
        resource_id: String = "_ResourceId",
        /// Id of the Azure subscription.
        subscription_id: String = "_SubscriptionId",
        /// Always `VMComputer`.
        r#type: String = "Type",
    }
}

impl ComputerRow {
    /// Table `VMComputer`: one row an hour.
    pub const TABLE: Table = Table { name: "VMComputer", columns: &Self::COLUMNS };

    /// Returns the row's stable id: equal for the same row, wherever and however often it is sent.
    pub fn id(&self) -> String {
        stable_id(&[&self.machine, &self.r#type, &self.time_generated.to_string()])
    }
}

row! {
    /// The `Azure…` columns of `VMComputer`; "" if Azure returns no value.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Azure {
        /// Subscription of the machine.
        azure_subscription_id: String = "AzureSubscriptionId",
        /// Resource group of the machine.
        azure_resource_group: String = "AzureResourceGroup",
        /// Name of the machine in Azure.
        azure_resource_name: String = "AzureResourceName",
        /// Region, as `westeurope`.
        azure_location: String = "AzureLocation",
        /// Update domain of the machine.
        azure_update_domain: String = "AzureUpdateDomain",
        /// Fault domain of the machine.
        azure_fault_domain: String = "AzureFaultDomain",
        /// Unique id of the virtual machine.
        azure_vm_id: String = "AzureVmId",
        /// Size, as `Standard_D4s_v5`.
        azure_size: String = "AzureSize",
        /// Publisher of the image.
        azure_image_publisher: String = "AzureImagePublisher",
        /// Offer of the image.
        azure_image_offering: String = "AzureImageOffering",
        /// SKU of the image.
        azure_image_sku: String = "AzureImageSku",
        /// Version of the image.
        azure_image_version: String = "AzureImageVersion",
        /// Cloud service; not in the instance metadata.
        azure_cloud_service_name: String = "AzureCloudServiceName",
        /// Deployment of the cloud service; not in the instance metadata.
        azure_cloud_service_deployment: String = "AzureCloudServiceDeployment",
        /// Role in the cloud service; not in the instance metadata.
        azure_cloud_service_role_name: String = "AzureCloudServiceRoleName",
        /// Role type in the cloud service; not in the instance metadata.
        azure_cloud_service_role_type: String = "AzureCloudServiceRoleType",
        /// Instance of the cloud service; not in the instance metadata.
        azure_cloud_service_instance_id: String = "AzureCloudServiceInstanceId",
        /// Scale set of the machine.
        azure_vm_scale_set_name: String = "AzureVmScaleSetName",
        /// Placement group in the scale set.
        azure_vm_scale_set_deployment: String = "AzureVmScaleSetDeployment",
        /// Resource id of the scale set.
        azure_vm_scale_set_resource_id: String = "AzureVmScaleSetResourceId",
        /// Number of the machine in the scale set.
        azure_vm_scale_set_instance_id: String = "AzureVmScaleSetInstanceId",
        /// Service Fabric cluster; its id is not in the instance metadata.
        azure_service_fabric_cluster_id: String = "AzureServiceFabricClusterId",
        /// Name of the Service Fabric cluster, from the machine's tags.
        azure_service_fabric_cluster_name: String = "AzureServiceFabricClusterName",
        /// Resource id of the machine as returned by Azure.
        #[serde(skip)]
        resource_id: String = no column,
    }
}

/// Values of the standard columns `_ResourceId` and `_SubscriptionId` of every table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// Resource id of the machine, in lower case as in all tables.
    pub id: String,
    /// Id of its subscription.
    pub subscription: String,
}

impl Azure {
    /// Returns the values of the standard columns.
    pub fn resource(&self) -> Resource {
        Resource {
            id: self.resource_id.to_ascii_lowercase(),
            subscription: self.azure_subscription_id.clone(),
        }
    }
}
