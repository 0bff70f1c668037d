//! From a server to a lookup: pulled, read by the child process, merged; withdrawn indicators are
//! gone.

use std::sync::Arc;

use sensor_tests::agent_binary;
use sensor_tests::servers::{CrowdSec, Medallion, Mmisp, MockWebServer, OpenTaxii, stix_indicator};
use sensor_user::base::clock::SystemClock;
use sensor_user::intel::{
    FeedConfig, FeedFolder, FeedKind, FeedQuery, Intel, MispQuery, ParserMode,
};
use serde_json::json;
use tempfile::TempDir;

use super::{Puller, sentinel, start};

/// The indicators of one feed, pulled and stored as by the agent.
pub(super) struct StoredFeed {
    pub(super) feed: FeedConfig,
    state: TempDir,
    pub(super) intel: Arc<Intel>,
}

impl StoredFeed {
    pub(super) fn new(puller: Puller) -> Self {
        let state = tempfile::tempdir().unwrap();
        let intel = intel(&puller.feed, &state);
        Self { feed: puller.feed, state, intel }
    }

    /// Simulates a restart of the agent with its stored state.
    pub(super) fn restart(&mut self) {
        self.intel = intel(&self.feed, &self.state);
        self.intel.load_saved();
    }

    /// Pulls, and returns for each address whether it is covered.
    pub(super) async fn pull(&self, addresses: &[&str]) -> Vec<bool> {
        self.intel.pull_all().await;
        let status = self.intel.status().remove(0);
        assert_eq!(status.last_error, None);
        self.covered(addresses)
    }

    fn covered(&self, addresses: &[&str]) -> Vec<bool> {
        let set = self.intel.set().load_full();
        let covers = |text: &&str| set.covering(text.parse().unwrap()).next().is_some();
        addresses.iter().map(covers).collect()
    }
}

fn intel(feed: &FeedConfig, state: &TempDir) -> Arc<Intel> {
    let folder = FeedFolder::open(state.path()).unwrap();
    let reading = ParserMode::Child(agent_binary().to_owned());
    Intel::new(vec![feed.clone()], folder, reading, Arc::new(SystemClock), Arc::default())
}

const HOSTS: [&str; 3] = ["203.0.113.5", "203.0.113.6", "203.0.113.7"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taxii_indicators_of_medallion() {
    let server = start!(Medallion);
    let puller = Puller::new(FeedKind::Taxii2, &server.url("taxii2/"));
    let mut stored = StoredFeed::new(puller.basic(Medallion::USER, server.password_file()));
    assert_eq!(stored.pull(&HOSTS).await, [false; 3]);
    server.add(
        Medallion::ID,
        &[stix_indicator(1, HOSTS[0], 0, false), stix_indicator(2, HOSTS[1], 0, false)],
    );
    assert_eq!(stored.pull(&HOSTS).await, [true, true, false]);
    server.add(
        Medallion::ID,
        &[stix_indicator(1, HOSTS[0], 1, true), stix_indicator(3, HOSTS[2], 0, false)],
    );
    assert_eq!(stored.pull(&HOSTS).await, [false, true, true]);
    stored.restart();
    assert_eq!(stored.covered(&HOSTS), [false, true, true]);
    assert_eq!(stored.pull(&HOSTS).await, [false, true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taxii_indicators_of_opentaxii() {
    let server = start!(OpenTaxii);
    let puller = Puller::new(FeedKind::Taxii2, &server.discovery());
    let stored = StoredFeed::new(puller.basic(OpenTaxii::USER, server.password_file()));
    assert_eq!(stored.pull(&HOSTS).await, [false; 3]);
    server.add(&[stix_indicator(1, HOSTS[0], 0, false)]);
    assert_eq!(stored.pull(&HOSTS).await, [true, false, false]);
    server.add(&[stix_indicator(1, HOSTS[0], 1, true), stix_indicator(3, HOSTS[2], 0, false)]);
    assert_eq!(stored.pull(&HOSTS).await, [false, false, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_of_crowdsec() {
    let server = start!(CrowdSec);
    let puller = Puller::new(FeedKind::CrowdSec, &server.url());
    let mut stored = StoredFeed::new(puller.token("X-Api-Key", server.key_file()));
    assert_eq!(stored.pull(&HOSTS).await, [false; 3]);
    server.ban(HOSTS[0]);
    server.ban("203.0.113.6/31");
    assert_eq!(stored.pull(&HOSTS).await, [true; 3]);
    server.unban(HOSTS[0]);
    assert_eq!(stored.pull(&HOSTS).await, [false, true, true]);
    server.ban(HOSTS[0]);
    stored.restart();
    assert_eq!(stored.covered(&HOSTS), [false, true, true]);
    assert_eq!(stored.pull(&HOSTS).await, [true; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_of_a_misp() {
    let server = start!(Mmisp);
    let event = server.event("a campaign");
    let id = server.attribute(event, "ip-dst", HOSTS[0], true);
    server.attribute(event, "ip-dst", HOSTS[1], true);
    server.attribute(event, "ip-dst", HOSTS[2], false);
    let mut puller = Puller::new(FeedKind::Misp, &server.url());
    let mut query = MispQuery { types: vec!["ip-dst".to_owned()], ..MispQuery::default() };
    query.filter.insert("deleted".to_owned(), json!([]));
    puller.feed.query = FeedQuery::Misp(query);
    let stored = StoredFeed::new(puller.token("Authorization", server.key_file()));
    assert_eq!(stored.pull(&HOSTS).await, [true, true, false]);
    server.request("DELETE", &format!("attributes/{id}"), &json!({}));
    assert_eq!(stored.pull(&HOSTS).await, [false, true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_misp_feed() {
    let site = MockWebServer::start().await;
    let ids = ["5a8d5a5c-1f1c-4c0e-9d3b-0a0027000001", "5a8d5a5c-1f1c-4c0e-9d3b-0a0027000002"];
    let put = |id: &str, hosts: &[&str]| {
        let attributes: Vec<_> = hosts
            .iter()
            .map(|host| {
                let end = host.rsplit('.').next().unwrap();
                json!({ "type": "ip-dst", "category": "Network activity", "to_ids": true,
                    "value": host, "timestamp": "1700000000", "deleted": false,
                    "uuid": format!("5a8d5a5c-1f1c-4c0e-9d3b-0a00270001{end:0>2}") })
            })
            .collect();
        let event = json!({ "Event": { "uuid": id, "info": "x", "Attribute": attributes } });
        site.set_response(&format!("/{id}.json"), event.to_string());
    };
    let manifest = |events: &[(&str, u32)]| {
        let line = |(id, time): &(&str, u32)| ((*id).to_owned(), json!({ "timestamp": time }));
        let all: serde_json::Map<_, _> = events.iter().map(line).collect();
        site.set_response("/manifest.json", json!(all).to_string());
    };
    put(ids[0], &HOSTS[..2]);
    put(ids[1], &HOSTS[2..]);
    manifest(&[(ids[0], 1), (ids[1], 1)]);
    let stored = StoredFeed::new(Puller::new(FeedKind::MispFeed, &site.url("/manifest.json")));
    assert_eq!(stored.pull(&HOSTS).await, [true; 3]);
    put(ids[0], &HOSTS[1..2]);
    manifest(&[(ids[0], 2), (ids[1], 1)]);
    assert_eq!(stored.pull(&HOSTS).await, [false, true, true]);
    manifest(&[(ids[0], 2)]);
    assert_eq!(stored.pull(&HOSTS).await, [false, true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indicators_of_a_workspace() {
    let (management, login) = (MockWebServer::start().await, MockWebServer::start().await);
    login.set_response(sentinel::TOKEN, sentinel::token(3600));
    let put = |hosts: &[&str]| {
        let item = |host: &&str| {
            json!({
                "id": format!("/x/{host}"), "name": format!("i-{host}"), "kind": "indicator",
                "properties": {
                    "pattern": format!("[ipv4-addr:value = '{host}']"), "patternType": "ipv4-addr",
                    "validFrom": "2026-11-01T00:00:00.0000000Z", "confidence": 80,
                    "lastUpdatedTimeUtc": "2026-11-01T00:00:00.0000000Z",
                },
            })
        };
        let items: Vec<_> = hosts.iter().map(item).collect();
        management.set_response(sentinel::QUERY, json!({ "value": items }).to_string());
    };
    put(&HOSTS[..2]);
    let stored = StoredFeed::new(sentinel::puller(&management, &login));
    assert_eq!(stored.pull(&HOSTS).await, [true, true, false]);
    put(&HOSTS[1..]);
    assert_eq!(stored.pull(&HOSTS).await, [false, true, true]);
}
