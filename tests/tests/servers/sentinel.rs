//! The management API of Microsoft Sentinel, as a mock after Microsoft's documentation: no emulator
//! exists.

use sensor_tests::servers::MockWebServer;
use sensor_user::http::Secret;
use sensor_user::intel::{Cursor, Extent, FeedKind, FeedQuery, WorkspaceQuery};
use serde_json::{Value, json};

use super::Puller;

pub(super) const TOKEN: &str = "/t.example/oauth2/v2.0/token";
pub(super) const QUERY: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/w/providers/Microsoft.SecurityInsights/threatIntelligence/main/queryIndicators";

pub(super) fn puller(management: &MockWebServer, login: &MockWebServer) -> Puller {
    let mut puller = Puller::new(FeedKind::SentinelQuery, &management.url("/"));
    let secret = puller.folder.path().with_extension("secret");
    std::fs::write(&secret, "a&b=c d\n").unwrap();
    puller.feed.query = FeedQuery::Sentinel(Box::new(WorkspaceQuery {
        subscription: "s".to_owned(),
        resource_group: "g".to_owned(),
        workspace: "w".to_owned(),
        tenant: "t.example".to_owned(),
        client_id: "c".to_owned(),
        client_secret: Secret::File(secret),
        login_url: login.url("/").parse().unwrap(),
        page_size: 2,
    }));
    puller
}

pub(super) fn token(seconds: u32) -> String {
    json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": "hunter2" }).to_string()
}

fn page(names: &[&str], next: Option<&str>) -> String {
    let items: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "kind": "indicator", "properties": {} }))
        .collect();
    json!({ "value": items, "nextLink": next }).to_string()
}

#[tokio::test]
async fn indicators_are_pulled_in_pages_with_one_token() {
    let (management, login) = (MockWebServer::start().await, MockWebServer::start().await);
    login.set_response(TOKEN, token(3600));
    let next = management.url(&format!("{QUERY}?api-version=2025-09-01&$skipToken=a%2Bb"));
    management.enqueue_response(QUERY, 200, &[], page(&["1", "2"], Some(&next)));
    management.enqueue_response(QUERY, 200, &[], page(&["3"], None));
    let puller = puller(&management, &login);
    let new = puller.new_from(&Cursor::Start).await;
    assert_eq!((new.extent.clone(), new.cursor.clone()), (Extent::Snapshot, Cursor::Start));
    assert_eq!(new.texts(&["value"], "name"), ["1", "2", "3"]);
    let requests = login.take_requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].body.starts_with(
            "grant_type=client_credentials&client_id=c&client_secret=a%26b%3Dc+d&scope="
        ),
        "{}",
        requests[0].body
    );
    assert!(requests[0].body.ends_with("%2F.default"), "{}", requests[0].body);
    let requests = management.take_requests();
    assert_eq!(requests[0].line, format!("POST {QUERY}?api-version=2025-09-01"));
    assert_eq!(requests[0].headers["authorization"], "Bearer hunter2");
    let bodies: Vec<Value> =
        requests.iter().map(|it| serde_json::from_str(&it.body).unwrap()).collect();
    assert_eq!(bodies[0], json!({ "pageSize": 2, "includeDisabled": false }));
    assert_eq!(bodies[1], json!({ "pageSize": 2, "includeDisabled": false, "skipToken": "a+b" }));
    // The token is valid for an hour.
    puller.new_from(&Cursor::Start).await;
    assert_eq!(login.take_requests().len(), 0);
}

#[tokio::test]
async fn refusals_are_distinguished_and_contain_no_secret() {
    let (management, login) = (MockWebServer::start().await, MockWebServer::start().await);
    let puller = puller(&management, &login);
    let wrong = json!({ "error": "invalid_client", "error_description": "hunter2" }).to_string();
    login.enqueue_response(TOKEN, 401, &[], wrong);
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("status 401") && error.contains("client_secret"), "{error}");
    login.set_response(TOKEN, "{\"access_token\":5,\"hunter2\":1}");
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("returns no token") && !error.contains("hunter2"), "{error}");
    login.set_response(TOKEN, token(3600));
    management.enqueue_response(QUERY, 403, &[], "{}");
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("status 403") && error.contains("Microsoft Sentinel Reader"), "{error}");
    for (status, hint) in [
        (404, "check subscription, resource_group and workspace"),
        (401, "the token is not for this server; check url and login_url"),
    ] {
        management.remove(QUERY);
        management.enqueue_response(QUERY, status, &[], "{}");
        let error = puller.pull_error(&Cursor::Start).await;
        assert!(error.contains(&format!("status {status}")) && error.contains(hint), "{error}");
    }
    // A refused token is not used again.
    login.take_requests();
    management.set_response(QUERY, page(&["1"], None));
    puller.new_from(&Cursor::Start).await;
    assert_eq!(login.take_requests().len(), 1);
    management.remove(QUERY);
    management.enqueue_response(QUERY, 429, &[("Retry-After", "17")], "{}");
    let error = puller.pull(&Cursor::Start).await.unwrap_err();
    assert_eq!(error.wait(), Some(std::time::Duration::from_secs(17)));
    management.set_response(QUERY, page(&["1"], Some("https://evil.example/x")));
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(error.contains("another server, https://evil.example/x"), "{error}");
    // A token that expires immediately is requested for each pull.
    login.set_response(TOKEN, token(60));
    management.set_response(QUERY, page(&["1"], None));
    let puller = self::puller(&management, &login);
    login.take_requests();
    puller.new_from(&Cursor::Start).await;
    puller.new_from(&Cursor::Start).await;
    assert_eq!(login.take_requests().len(), 2);
}
