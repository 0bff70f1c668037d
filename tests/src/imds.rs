//! Fake of Azure's Instance Metadata Service (IMDS) on 127.0.0.1.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Response of the service to each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImdsResponse {
    /// Valid instance document, as Azure returns it.
    Valid,
    /// This status without a body.
    Status(u16),
    /// Status 200 with this body.
    Body(Vec<u8>),
    /// No response; the connection stays open.
    NoResponse,
}

/// Running service. Dropping it stops the server.
#[derive(Debug)]
pub struct FakeImds {
    url: String,
    state: SharedState,
    serving: JoinHandle<()>,
}

/// Response, and the number of requests so far.
type SharedState = Arc<Mutex<(ImdsResponse, u32)>>;

impl FakeImds {
    /// Starts the service with this response.
    pub async fn start(response: ImdsResponse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/metadata/instance?api-version=2021-02-01");
        let state: SharedState = Arc::new(Mutex::new((response, 0)));
        let router =
            Router::new().route("/metadata/instance", get(instance)).with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, state, serving }
    }

    /// URL of the instance document.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets the response to later requests.
    pub fn set_response(&self, response: ImdsResponse) {
        self.state.lock().unwrap().0 = response;
    }

    /// Number of requests so far.
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
    State(state): State<SharedState>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, Vec<u8>) {
    let response = {
        let mut state = state.lock().unwrap();
        state.1 += 1;
        state.0.clone()
    };
    // The real service rejects requests without these.
    let is_valid = headers.get("Metadata").is_some_and(|value| value == "true")
        && headers.get("X-Forwarded-For").is_none()
        && uri.query() == Some("api-version=2021-02-01");
    if !is_valid {
        return (StatusCode::BAD_REQUEST, b"{\"error\":\"bad request\"}".to_vec());
    }
    match response {
        ImdsResponse::Valid => (StatusCode::OK, document().to_string().into_bytes()),
        ImdsResponse::Status(status) => (StatusCode::from_u16(status).unwrap(), Vec::new()),
        ImdsResponse::Body(body) => (StatusCode::OK, body),
        ImdsResponse::NoResponse => std::future::pending().await,
    }
}

/// Instance document in the format of API version 2021-02-01.
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
