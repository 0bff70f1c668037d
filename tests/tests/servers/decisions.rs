//! `CrowdSec`: several decisions about one address, types and scopes; with the real server, and with a mock of
//! one that ignores `dedup=false`.

use std::collections::BTreeMap;

use sensor_tests::servers::{CrowdSec, MockWebServer};
use sensor_user::intel::{CrowdSecQuery, FeedKind, FeedQuery};
use serde_json::{Value, json};

use super::end_to_end::StoredFeed;
use super::{Puller, start};

const HOST: [&str; 1] = ["203.0.113.5"];

fn stored(server: &CrowdSec, query: CrowdSecQuery) -> StoredFeed {
    let mut puller =
        Puller::new(FeedKind::CrowdSec, &server.url()).token("X-Api-Key", server.key_file());
    puller.feed.query = FeedQuery::CrowdSec(query);
    StoredFeed::new(puller)
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn rejected(stored: &StoredFeed) -> BTreeMap<String, u64> {
    let rejects = stored.intel.status().remove(0).rejects;
    rejects.counts().iter().map(|(reason, count)| (reason.to_string(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_of_this_host_is_not_hidden_by_a_longer_one_of_the_community() {
    let server = start!(CrowdSec);
    server.ban(HOST[0]);
    server.import(HOST[0]);
    for query in [
        CrowdSecQuery { origins: words(&["cscli"]), ..CrowdSecQuery::default() },
        CrowdSecQuery { scenarios_containing: words(&["manual"]), ..CrowdSecQuery::default() },
        CrowdSecQuery {
            scenarios_not_containing: words(&["community"]),
            scopes: words(&["Ip"]),
            ..CrowdSecQuery::default()
        },
    ] {
        let stored = stored(&server, query.clone());
        assert_eq!(stored.pull(&HOST).await, [true], "{query:?}");
        assert_eq!(stored.intel.status()[0].indicators, 1, "{query:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_two_bans_of_an_address_is_lifted_by_itself() {
    let server = start!(CrowdSec);
    // The ids count over all tests of this server: 1 and 2, then 3 and 4.
    for (first, second) in [(1, 2), (4, 3)] {
        server.ban(HOST[0]);
        let stored = stored(&server, CrowdSecQuery::default());
        assert_eq!(stored.pull(&HOST).await, [true]);
        server.import(HOST[0]);
        assert_eq!(stored.pull(&HOST).await, [true]);
        assert_eq!(stored.intel.status()[0].indicators, 2);
        server.lift(first);
        assert_eq!(stored.pull(&HOST).await, [true], "{second} is in force");
        assert_eq!(stored.intel.status()[0].indicators, 1);
        server.lift(second);
        assert_eq!(stored.pull(&HOST).await, [false], "both are lifted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_that_allow_and_scopes_without_an_address_are_no_indicators() {
    let server = start!(CrowdSec);
    let hosts = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.9"];
    server.decide("Ip", hosts[0], "captcha");
    server.decide("Ip", hosts[1], "whitelist");
    server.decide("Ip", hosts[2], "Allow");
    server.decide("Ip", hosts[3], "BYPASS");
    server.import("::ffff:203.0.113.9");
    server.decide("Range", "198.51.100.0/24", "throttle");
    server.decide("Country", "XX", "ban");
    server.decide("AS", "64496", "ban");
    server.decide("username", "root", "ban");
    let all: Vec<&str> = hosts.into_iter().chain(["198.51.100.77"]).collect();
    // Without `scopes` the server returns those of addresses only.
    let first = stored(&server, CrowdSecQuery::default());
    assert_eq!(first.pull(&all).await, [true, false, false, false, true, true]);
    assert_eq!(rejected(&first), BTreeMap::from([("benign".to_owned(), 3)]));
    let scopes = words(&["ip", "range", "country", "as", "username"]);
    let second = stored(&server, CrowdSecQuery { scopes, ..CrowdSecQuery::default() });
    assert_eq!(second.pull(&all).await, [true, false, false, false, true, true]);
    let expected = [("benign".to_owned(), 3), ("not an address indicator".to_owned(), 3)];
    assert_eq!(rejected(&second), BTreeMap::from(expected));
}

fn decision(id: u32, value: &str) -> Value {
    json!({ "id": id, "uuid": format!("u-{id}"), "origin": "cscli", "scenario": "x", "scope": "Ip",
        "type": "ban", "value": value, "duration": "4h" })
}

/// Of a server that ignores `dedup=false`, the deletion of a decision that was never sent is of all those about
/// the same address. Of one that does not, each decision is deleted by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deletion_of_an_unknown_decision_is_of_its_address() {
    let site = MockWebServer::start().await;
    let (host, same, other) = ("203.0.113.5", "::ffff:203.0.113.5", "203.0.113.6");
    let captcha = |id| {
        let mut captcha = decision(id, host);
        captcha["type"] = json!("Captcha");
        captcha
    };
    let hosts = [host, other];
    let ban = |id| decision(id, host);
    for (name, pulls, covered) in [
        (
            "an unknown id",
            vec![json!({ "new": [ban(1), decision(9, other)] }), json!({ "deleted": [ban(2)] })],
            [false, true],
        ),
        (
            "in another notation",
            vec![json!({ "new": [ban(1)] }), json!({ "deleted": [decision(2, same)] })],
            [false, false],
        ),
        (
            "of another type",
            vec![json!({ "new": [ban(1)] }), json!({ "deleted": [captcha(2)] })],
            [true, false],
        ),
        (
            "with a new one in the same response",
            vec![json!({ "new": [ban(1)] }), json!({ "deleted": [ban(2)], "new": [ban(3)] })],
            [true, false],
        ),
        (
            "a known id, beside another one that was sent later",
            vec![
                json!({ "new": [ban(1)] }),
                json!({ "new": [ban(2)] }),
                json!({ "deleted": [ban(2)] }),
            ],
            [true, false],
        ),
        (
            "a known id that is deleted twice",
            vec![
                json!({ "new": [ban(1)] }),
                json!({ "new": [ban(2)] }),
                json!({ "deleted": [ban(2)] }),
                json!({ "deleted": [ban(2)] }),
            ],
            [true, false],
        ),
        (
            "an unknown id, of a server that sent two decisions about one address at once",
            vec![
                json!({ "new": [ban(1), decision(7, other), decision(8, other)] }),
                json!({ "deleted": [decision(7, other)] }),
                json!({ "deleted": [ban(2)] }),
            ],
            [true, true],
        ),
    ] {
        site.remove("/v1/decisions/stream");
        let last = pulls.len();
        for pull in pulls {
            site.enqueue_response("/v1/decisions/stream", 200, &[], pull.to_string());
        }
        let stored = StoredFeed::new(Puller::new(FeedKind::CrowdSec, &site.url("/")));
        let mut found = Vec::new();
        for _pull in 0..last {
            found = stored.pull(&hosts).await;
        }
        assert_eq!(found, covered, "{name}");
        assert!(site.take_requests().iter().all(|it| it.line.contains("dedup=false")));
    }
}

/// An error with status 200 is not "no changes".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_no_stream_is_refused() {
    let site = MockWebServer::start().await;
    let path = "/v1/decisions/stream";
    site.enqueue_response(path, 200, &[], json!({ "new": [decision(1, HOST[0])] }).to_string());
    site.enqueue_response(path, 200, &[], json!({ "new": null, "deleted": null }).to_string());
    site.enqueue_response(path, 200, &[], json!({ "message": "busy" }).to_string());
    let stored = StoredFeed::new(Puller::new(FeedKind::CrowdSec, &site.url("/")));
    assert_eq!(stored.pull(&HOST).await, [true]);
    assert_eq!(stored.pull(&HOST).await, [true]);
    stored.intel.pull_all().await;
    let error = stored.intel.status().remove(0).last_error.unwrap();
    assert!(error.contains("message: busy"), "{error}");
}
