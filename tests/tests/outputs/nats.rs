//! NATS: a stream has each raised item once, and outages are retried.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use sensor_tests::servers::Nats;
use sensor_tests::{sample_alert, skip_unless};
use sensor_user::deliver::{Format, NatsConfig, SinkConfig, SinkKind};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{items, raise_all, sink_for_all, start, wait_until, written};

/// A running server with `more` in its configuration; `None` if it is not installed (the test is
/// skipped).
pub(super) fn server(more: &str) -> Option<Nats> {
    let nats = Nats::start(more);
    let reason = "nats-server is missing: run cargo xtask test";
    if skip_unless(nats.is_some(), reason) { None } else { nats }
}

pub(super) fn config(nats: &Nats) -> NatsConfig {
    NatsConfig {
        timeout: Duration::from_secs(3),
        create_stream: Some(NatsConfig::STREAM.to_owned()),
        site: "oslo.1".to_owned(),
        ..NatsConfig::new(nats.address())
    }
}

fn sink(config: NatsConfig) -> SinkConfig {
    sink_for_all("nats", SinkKind::Nats(config), Format::Native)
}

/// A message of the stream.
#[derive(Debug)]
struct Message {
    subject: String,
    body: Value,
}

/// A client that reads the stream.
struct Reader {
    runtime: Runtime,
    context: jetstream::Context,
}

impl Reader {
    fn connect(nats: &Nats, options: ConnectOptions) -> Self {
        let runtime = Runtime::new().unwrap();
        let context = runtime.block_on(async {
            jetstream::new(Box::pin(options.connect(nats.address())).await.unwrap())
        });
        Self { runtime, context }
    }

    /// Number of messages in the stream; 0 if the stream does not exist.
    fn count(&self) -> u64 {
        let counted = async {
            let mut stream = self.context.get_stream(NatsConfig::STREAM).await.ok()?;
            Some(stream.info().await.ok()?.state.messages)
        };
        self.runtime.block_on(counted).unwrap_or(0)
    }

    /// Subjects of the stream.
    fn subjects(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(NatsConfig::STREAM).await.unwrap();
            stream.cached_info().config.subjects.clone()
        })
    }

    /// Deletes all messages; the server still knows their ids.
    fn purge(&self) {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(NatsConfig::STREAM).await.unwrap();
            stream.purge().await.unwrap();
        });
    }

    fn create_stream(&self, config: stream::Config) {
        self.runtime.block_on(self.context.create_stream(config)).unwrap();
    }

    /// All messages by their ids.
    fn messages(&self) -> BTreeMap<String, Message> {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(NatsConfig::STREAM).await.unwrap();
            let mut found = BTreeMap::new();
            let last = stream.get_info().await.unwrap().state.last_sequence;
            for sequence in 1..=last {
                let raw = stream.get_raw_message(sequence).await.unwrap();
                let id = raw.headers.get("Nats-Msg-Id").unwrap().to_string();
                let subject = raw.subject.to_string();
                let body = serde_json::from_slice(&raw.payload).unwrap();
                assert!(found.insert(id, Message { subject, body }).is_none());
            }
            found
        })
    }
}

#[test]
fn a_stream_has_every_item_once_under_its_subject() {
    let Some(nats) = server("") else { return };
    let running = start(&[sink(config(&nats))]);
    raise_all(&running);
    let reader = Reader::connect(&nats, ConnectOptions::new());
    wait_until("all messages", || reader.count() == items::total() as u64);
    let (value, left) = running.drain();
    assert_eq!((left, value("alerts_delivered")), (vec![], items::alerts().len() as u64));
    let messages = reader.messages();
    let (_folder, lines) = written(Format::Native);
    for message in messages.values() {
        assert!(lines.contains(&message.body), "{message:?}");
    }
    for alert in items::alerts() {
        let message = &messages[&alert.alert_id];
        assert_eq!(message.subject, "netsensor.alerts.oslo_1.web01_example_net");
        assert_eq!(message.body, serde_json::to_value(&alert).unwrap());
    }
    assert_eq!(messages["row-full"].subject, "netsensor.rows.oslo_1.web01_example_net");
    let health = messages.values().filter(|it| it.subject.starts_with("netsensor.health."));
    assert_eq!(health.count(), items::events().len());
    let subjects = ["alerts", "rows", "health"].map(|kind| format!("netsensor.{kind}.>"));
    assert_eq!(reader.subjects(), subjects);
    // Another run sends the same items: the stream still has each once.
    let running = start(&[sink(config(&nats))]);
    raise_all(&running);
    assert_eq!(running.drain().1, []);
    assert_eq!(reader.count(), items::total() as u64);
}

#[test]
fn items_that_the_stream_knows_and_no_longer_has_are_reported() {
    let Some(nats) = server("") else { return };
    let send = || {
        let name = SinkConfig { name: "purged".to_owned(), ..sink(config(&nats)) };
        let running = start(&[name]);
        running.outbox.alerts(vec![sample_alert("a0"), sample_alert("a1")], None);
        wait_until("both", || running.stats.alerts_delivered.value() == 2);
        assert_eq!(running.drain().1, []);
    };
    send();
    let reported = || {
        let lines = sensor_tests::captured_logs("receiver knew items already; not stored again");
        lines.into_iter().filter(|line| line.contains("sink=\"purged\" count=2")).count()
    };
    assert_eq!(reported(), 0);
    let reader = Reader::connect(&nats, ConnectOptions::new());
    reader.purge();
    send();
    assert_eq!((reader.count(), reported()), (0, 1));
}

#[test]
fn alerts_raised_during_an_outage_arrive_once() {
    let Some(mut nats) = server("") else { return };
    let running = start(&[sink(config(&nats))]);
    let raise = |name: &str| {
        for number in 0..20 {
            running.outbox.alerts(vec![sample_alert(&format!("{name}-{number}"))], None);
        }
    };
    raise("before");
    wait_until("twenty", || running.stats.alerts_delivered.value() == 20);
    nats.stop();
    raise("away");
    wait_until("an error", || running.stats.deliveries_retried.value() > 0);
    nats.restart();
    raise("after");
    wait_until("all sixty", || running.stats.alerts_delivered.value() == 60);
    assert_eq!(running.drain().1, []);
    let reader = Reader::connect(&nats, ConnectOptions::new());
    assert_eq!(reader.messages().len(), 60);
}

#[test]
fn a_missing_stream_is_reported_and_alerts_wait() {
    let Some(nats) = server("") else { return };
    let running = start(&[sink(NatsConfig { create_stream: None, ..config(&nats) })]);
    running.outbox.alerts(vec![sample_alert("a0")], None);
    let logged = || {
        sensor_tests::captured_logs(
            "no stream has the subjects netsensor.alerts.>, netsensor.rows.>",
        )
    };
    wait_until("the error", || !logged().is_empty());
    let reader = Reader::connect(&nats, ConnectOptions::new());
    reader.create_stream(stream::Config {
        name: NatsConfig::STREAM.to_owned(),
        subjects: vec!["netsensor.>".to_owned()],
        ..stream::Config::default()
    });
    wait_until("it arrives", || reader.count() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn a_message_above_the_server_limit_is_rejected_alone() {
    let Some(nats) = server("max_payload: 8192") else { return };
    let running = start(&[sink(config(&nats))]);
    let mut large = sample_alert("large");
    large.command_line = "x".repeat(20_000);
    running.outbox.alerts(vec![sample_alert("a0"), large, sample_alert("a1")], None);
    wait_until("both", || running.stats.alerts_delivered.value() == 2);
    wait_until("the other", || running.stats.alerts_discarded_rejected.value() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn a_message_above_the_stream_limit_is_rejected_alone() {
    let Some(nats) = server("") else { return };
    let reader = Reader::connect(&nats, ConnectOptions::new());
    reader.create_stream(stream::Config {
        name: NatsConfig::STREAM.to_owned(),
        subjects: vec!["netsensor.alerts.>".to_owned()],
        max_message_size: 8192,
        ..stream::Config::default()
    });
    let running = start(&[sink(config(&nats))]);
    let mut large = sample_alert("large");
    large.command_line = "x".repeat(20_000);
    running.outbox.alerts(vec![sample_alert("a0"), large, sample_alert("a1")], None);
    wait_until("both", || running.stats.alerts_delivered.value() == 2);
    wait_until("the other", || running.stats.alerts_discarded_rejected.value() == 1);
    assert_eq!((running.drain().1, reader.count()), (vec![], 2));
}

#[test]
fn a_full_stream_holds_the_alerts_until_there_is_room() {
    let Some(nats) = server("") else { return };
    let reader = Reader::connect(&nats, ConnectOptions::new());
    reader.create_stream(stream::Config {
        name: NatsConfig::STREAM.to_owned(),
        subjects: vec!["netsensor.alerts.>".to_owned()],
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    });
    let running = start(&[sink(config(&nats))]);
    running.outbox.alerts(vec![sample_alert("a0"), sample_alert("a1")], None);
    wait_until("a retry", || running.stats.deliveries_retried.value() > 1);
    assert_eq!(running.stats.alerts_delivered.value(), 1);
    reader.purge();
    wait_until("both", || running.stats.alerts_delivered.value() == 2);
    assert_eq!(running.drain().1, []);
}
