//! `VMComputer` rows, and Azure instance metadata (IMDS) from a misbehaving service.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::sync::Arc;
use std::time::Duration;

use sensor_tests::{FakeImds, ImdsResponse};
use sensor_user::base::clock::{Clock, SystemClock};
use sensor_user::base::counters::Stats;
use sensor_user::inventory::{
    AzureConfig, Host, Imds, ImdsMode, ImdsRetryPolicy, InventoryRefresh, SharedAzure,
};
use sensor_user::schema::ComputerRow;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const RETRY: ImdsRetryPolicy = ImdsRetryPolicy {
    timeout: Duration::from_millis(500),
    retry_first: Duration::from_millis(20),
    retry_max: Duration::from_millis(40),
};
const SOON: Duration = Duration::from_secs(10);

fn imds(fake: &FakeImds, mode: ImdsMode) -> Imds {
    let config = AzureConfig { imds: mode, imds_url: Some(fake.url().parse().unwrap()) };
    Imds::new(&config, RETRY).unwrap()
}

/// A running inventory of this machine, with its rows as they are published.
struct Inventory {
    rows: mpsc::Receiver<ComputerRow>,
    azure: SharedAzure,
    stats: Arc<Stats>,
    task: JoinHandle<()>,
}

impl Inventory {
    fn start(fake: &FakeImds, mode: ImdsMode) -> Self {
        let (rows_in, rows) = mpsc::channel(10);
        let host =
            Host { root: "/".into(), computer: "web01.example".into(), agent_id: "id".into() };
        let (azure, stats) = (SharedAzure::default(), Arc::<Stats>::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let put = move |row| rows_in.try_send(row).unwrap();
        let refresh = InventoryRefresh {
            host,
            mode,
            imds: imds(fake, mode),
            azure: SharedAzure::clone(&azure),
            clock,
            stats: Arc::clone(&stats),
        };
        let task = tokio::spawn(refresh.run(put));
        Self { rows, azure, stats, task }
    }

    async fn row(&mut self) -> ComputerRow {
        tokio::time::timeout(SOON, self.rows.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Inventory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_misbehaving_imds_is_queried_again_and_its_valid_response_gives_a_row() {
    let fake = FakeImds::start(ImdsResponse::Status(404)).await;
    let mut inventory = Inventory::start(&fake, ImdsMode::On);
    let first = inventory.row().await;
    assert_eq!((first.hosting_provider.as_str(), first.resource_id.as_str()), ("", ""));
    assert_eq!(first.azure, <_>::default());
    let long = format!("{{\"compute\":{{\"name\":\"{}\"}}}}", "x".repeat(300_000));
    for response in [
        ImdsResponse::Body(b"<html>captive portal</html>".to_vec()),
        ImdsResponse::Body(b"{\"compute\":{\"vmId\":\"x\",\"resourceId\":\"y\"}}".to_vec()),
        ImdsResponse::Body(long.into_bytes()),
        ImdsResponse::Status(500),
        ImdsResponse::NoResponse,
    ] {
        let before = inventory.stats.azure_metadata_requests_failed.value();
        fake.set_response(response.clone());
        let failed = async {
            while inventory.stats.azure_metadata_requests_failed.value() < before + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, failed).await.is_ok(), "{response:?}");
        assert!(inventory.azure.load().is_none() && inventory.rows.is_empty(), "{response:?}");
    }
    fake.set_response(ImdsResponse::Valid);
    let row = inventory.row().await;
    assert_eq!(row.hosting_provider, "azure");
    let id = "/subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourcegroups/prod/providers/\
              microsoft.compute/virtualmachines/web01";
    assert_eq!(row.resource_id, id);
    assert_eq!(row.subscription_id, "8d10da13-8125-4ba9-a717-bf7490507b3d");
    assert_eq!(
        inventory.azure.load().as_ref().map(|azure| azure.resource().id),
        Some(id.to_owned())
    );
    let json = serde_json::to_value(&row).unwrap();
    for (column, value) in [
        ("AzureSubscriptionId", "8d10da13-8125-4ba9-a717-bf7490507b3d"),
        ("AzureResourceGroup", "Prod"),
        ("AzureResourceName", "web01"),
        ("AzureLocation", "westeurope"),
        ("AzureUpdateDomain", "3"),
        ("AzureFaultDomain", "1"),
        ("AzureVmId", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
        ("AzureSize", "Standard_D4s_v5"),
        ("AzureImagePublisher", "Debian"),
        ("AzureImageOffering", "debian-12"),
        ("AzureImageSku", "12-gen2"),
        ("AzureImageVersion", "latest"),
        ("AzureVmScaleSetName", ""),
        ("Type", "VMComputer"),
    ] {
        assert_eq!(json[column], value, "{column}");
    }
}

#[tokio::test]
async fn imds_is_not_queried_outside_azure_or_when_disabled() {
    let fake = FakeImds::start(ImdsResponse::Valid).await;
    for mode in [ImdsMode::Off, ImdsMode::Auto] {
        if mode == ImdsMode::Auto && sensor_user::inventory::is_azure("/".as_ref()) {
            continue;
        }
        let mut inventory = Inventory::start(&fake, mode);
        let row = inventory.row().await;
        assert_eq!((row.azure, row.resource_id.as_str()), (<_>::default(), ""));
        assert!(row.cpus.is_some_and(|cpus| cpus > 0) && row.physical_memory_mb > Some(16));
        assert!(row.boot_time.unwrap() < row.time_generated, "{:?}", row.boot_time);
    }
    assert_eq!(fake.request_count(), 0);
}
