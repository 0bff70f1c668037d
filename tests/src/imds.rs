//! Azure's instance metadata service, as a machine of Azure meets it, on 127.0.0.1.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImdsResponse {
    /// As Azure does.
    Valid,
    /// With this status.
    Status(u16),
    /// With status 200 and this body.
    Body(Vec<u8>),
    /// Not at all.
    NoResponse,
}

/// The service; it stops when dropped.
#[derive(Debug)]
pub struct FakeImds {
    url: String,
    state: Shared,
    serving: JoinHandle<()>,
}

type Shared = Arc<Mutex<(ImdsResponse, u32)>>;

impl FakeImds {
    /// Starts it; it answers so until told otherwise.
    pub async fn start(answer: ImdsResponse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/metadata/instance?api-version=2021-02-01");
        let state: Shared = Arc::new(Mutex::new((answer, 0)));
        let router =
            Router::new().route("/metadata/instance", get(instance)).with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, state, serving }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers so from now on.
    pub fn set_response(&self, answer: ImdsResponse) {
        self.state.lock().unwrap().0 = answer;
    }

    /// Requests so far.
    pub fn request_count(&self) -> u32 {
        self.state.lock().unwrap().1
    }
}

impl Drop for FakeImds {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn instance(
    State(state): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, Vec<u8>) {
    let answer = {
        let mut state = state.lock().unwrap();
        state.1 += 1;
        state.0.clone()
    };
    // What the real one refuses.
    let proper = headers.get("Metadata").is_some_and(|value| value == "true")
        && headers.get("X-Forwarded-For").is_none()
        && uri.query() == Some("api-version=2021-02-01");
    if !proper {
        return (StatusCode::BAD_REQUEST, b"{\"error\":\"bad request\"}".to_vec());
    }
    match answer {
        ImdsResponse::Valid => (StatusCode::OK, document().to_string().into_bytes()),
        ImdsResponse::Status(status) => (StatusCode::from_u16(status).unwrap(), Vec::new()),
        ImdsResponse::Body(body) => (StatusCode::OK, body),
        ImdsResponse::NoResponse => std::future::pending().await,
    }
}

/// What it says of its machine, in the form of version 2021-02-01.
fn document() -> serde_json::Value {
    json!({
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "location": "westeurope",
            "name": "web01",
            "offer": "debian-12",
            "osType": "Linux",
            "placementGroupId": "",
            "plan": {"name": "", "product": "", "publisher": ""},
            "platformFaultDomain": "1",
            "platformUpdateDomain": "3",
            "publisher": "Debian",
            "resourceGroupName": "Prod",
            "resourceId": "/subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourceGroups/Prod/providers/Microsoft.Compute/virtualMachines/web01",
            "sku": "12-gen2",
            "storageProfile": {
                "imageReference": {"id": "", "offer": "debian-12", "publisher": "Debian", "sku": "12-gen2", "version": "latest"},
                "osDisk": {"diskSizeGB": "30", "osType": "Linux"}
            },
            "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d",
            "tags": "",
            "tagsList": [],
            "version": "0.20260101.1",
            "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
            "vmScaleSetName": "",
            "vmSize": "Standard_D4s_v5",
            "zone": "1"
        },
        "network": {"interface": []}
    })
}
