//! Parser of Azure's instance metadata: the Azure columns of this machine.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Deserialize;

use super::error::ImdsError;
use super::files::clean;
use crate::schema::Azure;

/// Metadata of the last response of Azure, if there was one; read by each stage that makes rows.
pub type SharedAzure = Arc<ArcSwapOption<Azure>>;

/// Parses the response of `/metadata/instance`.
pub(super) fn parse(response: &[u8]) -> Result<Azure, ImdsError> {
    let Instance { compute } = serde_json::from_slice(response).map_err(ImdsError::Response)?;
    let Compute { storage_profile: StorageProfile { image_reference: image }, .. } = &compute;
    let resource_id = clean(&compute.resource_id);
    if clean(&compute.vm_id).is_empty() || !resource_id.starts_with("/subscriptions/") {
        return Err(ImdsError::NoMachine);
    }
    let or = |image: &str, of_vm: &str| clean(if image.is_empty() { of_vm } else { image });
    let scale_set = clean(&compute.vm_scale_set_name);
    let (set_id, instance) = scale_set_ids(&resource_id, &scale_set);
    Ok(Azure {
        azure_subscription_id: clean(&compute.subscription_id),
        azure_resource_group: clean(&compute.resource_group_name),
        azure_resource_name: clean(&compute.name),
        azure_location: clean(&compute.location),
        azure_update_domain: clean(&compute.platform_update_domain),
        azure_fault_domain: clean(&compute.platform_fault_domain),
        azure_vm_id: clean(&compute.vm_id),
        azure_size: clean(&compute.vm_size),
        azure_image_publisher: or(&image.publisher, &compute.publisher),
        azure_image_offering: or(&image.offer, &compute.offer),
        azure_image_sku: or(&image.sku, &compute.sku),
        azure_image_version: or(&image.version, &compute.version),
        azure_vm_scale_set_name: scale_set,
        azure_vm_scale_set_deployment: clean(&compute.placement_group_id),
        azure_vm_scale_set_resource_id: set_id,
        azure_vm_scale_set_instance_id: instance,
        azure_service_fabric_cluster_name: fabric_cluster(&compute.tags_list),
        resource_id,
        ..Azure::default()
    })
}

/// The scale set's resource id, and the machine's id in the set. The resource id of a machine in a
/// uniform set is below that of its set, `…/virtualMachineScaleSets/NAME/virtualMachines/NUMBER`; in a
/// flexible set it is beside that of the set, `…/virtualMachines/NAME`.
fn scale_set_ids(resource_id: &str, scale_set: &str) -> (String, String) {
    if scale_set.is_empty() {
        return Default::default();
    }
    let Some((above, machine)) = resource_id.split_once("/virtualMachines/") else {
        return Default::default();
    };
    if above.contains("/virtualMachineScaleSets/") {
        return (above.to_owned(), machine.to_owned());
    }
    (format!("{above}/virtualMachineScaleSets/{scale_set}"), machine.to_owned())
}

fn fabric_cluster(tags: &[Tag]) -> String {
    let value = |name: &str| tags.iter().find(|tag| tag.name == name).map(|tag| &tag.value);
    let fabric = value("resourceType").is_some_and(|value| value == "Service Fabric");
    value("clusterName").filter(|_| fabric).map(|name| clean(name)).unwrap_or_default()
}

/// The used part of the response.
#[derive(Debug, Deserialize)]
struct Instance {
    compute: Compute,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Compute {
    location: String,
    name: String,
    offer: String,
    placement_group_id: String,
    platform_fault_domain: String,
    platform_update_domain: String,
    publisher: String,
    resource_group_name: String,
    resource_id: String,
    sku: String,
    storage_profile: StorageProfile,
    subscription_id: String,
    tags_list: Vec<Tag>,
    version: String,
    vm_id: String,
    vm_scale_set_name: String,
    vm_size: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StorageProfile {
    image_reference: Image,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    offer: String,
    publisher: String,
    sku: String,
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tag {
    name: String,
    value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(resource: &str, more: &str) -> String {
        format!(
            "{{\"compute\":{{\"vmId\":\"02aab8a4-74ef-476e-8182-f6d2ba4166a6\",\"subscriptionId\":\
             \"8d10da13\",\"resourceId\":\"/subscriptions/8d10da13/resourceGroups/rg/providers/\
             Microsoft.Compute/{resource}\"{more}}},\"network\":{{\"interface\":[]}}}}"
        )
    }

    #[test]
    fn a_machine_outside_a_scale_set_has_its_image_and_a_resource_id_in_lower_case() {
        let more = ",\"name\":\"web01\",\"location\":\"westeurope\",\"vmSize\":\"Standard_A3\",\
            \"offer\":\"\",\"storageProfile\":{\"imageReference\":{\"offer\":\"debian-12\",\
            \"id\":null,\"version\":\"latest\"}},\"sku\":\"12-gen2\",\"newKey\":[1]";
        let azure = parse(machine("virtualMachines/web01", more).as_bytes()).unwrap();
        let resource = azure.resource();
        assert!(resource.id.ends_with("/microsoft.compute/virtualmachines/web01"), "{resource:?}");
        assert_eq!(resource.subscription, "8d10da13");
        assert_eq!(
            (azure.azure_image_offering.as_str(), azure.azure_image_sku.as_str()),
            ("debian-12", "12-gen2")
        );
        assert_eq!(azure.azure_vm_scale_set_resource_id, "");
    }

    #[test]
    fn a_machine_of_a_scale_set_has_the_ids_of_its_set_and_instance() {
        for (resource, number) in [
            ("virtualMachineScaleSets/pool/virtualMachines/7", "7"),
            ("virtualMachines/pool_1a2b", "pool_1a2b"),
        ] {
            let more = ",\"vmScaleSetName\":\"pool\",\"tagsList\":[{\"name\":\"clusterName\",\
                \"value\":\"fabric\"},{\"name\":\"resourceType\",\"value\":\"Service Fabric\"}]";
            let azure = parse(machine(resource, more).as_bytes()).unwrap();
            let set = "/subscriptions/8d10da13/resourceGroups/rg/providers/Microsoft.Compute/\
                virtualMachineScaleSets/pool";
            assert_eq!(azure.azure_vm_scale_set_resource_id, set);
            assert_eq!(azure.azure_vm_scale_set_instance_id, number);
            assert_eq!(azure.azure_service_fabric_cluster_name, "fabric");
        }
    }

    #[test]
    fn a_response_that_identifies_no_machine_is_rejected() {
        for response in ["", "[]", "{}", "<html>", "{\"compute\":{}}", "{\"compute\":{\"vmId\":7}}"]
        {
            assert!(parse(response.as_bytes()).is_err(), "{response}");
        }
        let other = machine("x", "").replace("/subscriptions/", "/other/");
        assert!(matches!(parse(other.as_bytes()), Err(ImdsError::NoMachine)));
    }
}
