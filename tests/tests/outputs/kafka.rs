//! Kafka, with the mock cluster of librdkafka: brokers on real ports, in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sensor_tests::servers::{KafkaClient, KafkaMessage, Tansu};
use sensor_tests::{Netns, sample_alert, skip_unless};
use sensor_user::deliver::{Format, KafkaConfig, PropertyText, SinkConfig, SinkKind};

use super::{items, raise_all, sink_for_all, start, wait_until, written};

pub(super) const TOPICS: [&str; 3] = ["netsensor.alerts", "netsensor.rows", "netsensor.health"];

pub(super) const PARTITIONS: i32 = 3;

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, PARTITIONS, 3).unwrap();
    }
    cluster
}

fn config(servers: &str) -> KafkaConfig {
    let servers = servers.split(',').map(str::to_owned).collect();
    KafkaConfig { timeout: Duration::from_secs(5), ..KafkaConfig::new(servers) }
}

fn sink(config: KafkaConfig) -> SinkConfig {
    sink_for_all("kafka", SinkKind::Kafka(config), Format::Native)
}

/// The first `count` messages of all topics.
fn read(servers: &str, count: usize) -> Vec<KafkaMessage> {
    KafkaClient::new(servers).read(&TOPICS, PARTITIONS, |found| found.len() >= count)
}

#[test]
fn topics_have_every_item_with_its_id_and_host() {
    let cluster = cluster();
    every_item_arrives(&cluster.bootstrap_servers());
}

#[test]
fn a_separate_broker_process_has_every_item_too() {
    let tansu = Tansu::start();
    if skip_unless(tansu.is_some(), "tansu is missing: run cargo xtask test") {
        return;
    }
    let servers = tansu.as_ref().unwrap().address();
    KafkaClient::new(&servers).make_topics(&TOPICS, PARTITIONS);
    every_item_arrives(&servers);
}

/// Raises all items and reads them back.
fn every_item_arrives(servers: &str) {
    let running = start(&[sink(config(servers))]);
    raise_all(&running);
    let (_folder, lines) = written(Format::Native);
    let found = read(servers, items::total());
    assert_eq!(running.drain().1, []);
    assert_eq!(found.len(), items::total());
    let mut topics = BTreeMap::<String, usize>::new();
    for message in &found {
        *topics.entry(message.topic.clone()).or_default() += 1;
        assert_eq!(message.key, "web01.example.net");
        assert!(lines.contains(&message.body), "{}", message.body);
    }
    let counts = [items::alerts().len(), items::rows().len(), items::events().len()];
    assert_eq!(TOPICS.map(|topic| topics.get(topic).copied().unwrap_or(0)), counts);
    for alert in items::alerts() {
        let body = serde_json::to_value(&alert).unwrap();
        assert!(found.iter().any(|it| it.id == alert.alert_id && it.body == body));
    }
}

/// In a network namespace of its own: a mock broker that comes back aborts the process if another program
/// has taken its port meanwhile.
#[test]
fn broker_errors_and_downtime_are_retried() {
    if nix::unistd::geteuid().is_root() {
        Netns::new(&[]).inside(retry_errors_and_downtime);
    } else {
        retry_errors_and_downtime();
    }
}

fn retry_errors_and_downtime() {
    let cluster = cluster();
    let servers = cluster.bootstrap_servers();
    let produce = RDKafkaApiKey::Produce;
    let again = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    cluster.request_errors(produce, &[again, again]);
    let running = start(&[sink(config(&servers))]);
    running.outbox.alerts(vec![sample_alert("a0"), sample_alert("a1")], None);
    wait_until("both", || running.stats.alerts_delivered.value() == 2);
    for broker in 1..=3 {
        cluster.broker_down(broker).unwrap();
    }
    running.outbox.alerts(vec![sample_alert("a2")], None);
    wait_until("an error", || running.stats.deliveries_retried.value() > 0);
    for broker in 1..=3 {
        cluster.broker_up(broker).unwrap();
    }
    wait_until("the third", || running.stats.alerts_delivered.value() == 3);
    assert_eq!(running.drain().1, []);
    let ids: Vec<String> = read(&servers, 3).into_iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[test]
fn an_oversized_message_is_rejected_alone() {
    let cluster = cluster();
    let limit = ("message.max.bytes".to_owned(), PropertyText::Plain("10000".to_owned()));
    let config = KafkaConfig { properties: vec![limit], ..config(&cluster.bootstrap_servers()) };
    let running = start(&[sink(config)]);
    let mut large = sample_alert("large");
    large.command_line = "x".repeat(20_000);
    running.outbox.alerts(vec![sample_alert("a0"), large, sample_alert("a1")], None);
    wait_until("both", || running.stats.alerts_delivered.value() == 2);
    wait_until("the other", || running.stats.alerts_discarded_rejected.value() == 1);
    assert_eq!(running.drain().1, []);
}
