//! Kafka: who produces (SASL), and who is asked (TLS). What is wrong is told by the sink's name with
//! what to do about it, alerts wait, and what is put right counts without a new start.

use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use sensor_tests::servers::{KafkaAuthProxy, KafkaClient, KafkaMessage, ProxyTls};
use sensor_tests::{certificates, skip_unless, wait_until};
use sensor_user::deliver::{KafkaConfig, KafkaLogin, KafkaMechanism, SinkConfig, SinkKind};
use sensor_user::web::{Certificate, TlsConfig};

use super::kafka::{PARTITIONS, TOPICS};
use super::login::{Place, let_in_when_right, wait_for_word};
use super::start;

/// A running broker with the topics; `None` where it is not installed (skipped).
fn gate(tls: ProxyTls, mechanism: &str) -> Option<KafkaAuthProxy> {
    let gate = KafkaAuthProxy::start(tls, mechanism);
    if skip_unless(gate.is_some(), "tansu is missing: run cargo xtask test") {
        return None;
    }
    let gate = gate.unwrap();
    client(&gate, tls, mechanism).make_topics(&TOPICS, PARTITIONS);
    Some(gate)
}

/// Somebody else whom the broker lets in.
fn client(gate: &KafkaAuthProxy, tls: ProxyTls, mechanism: &str) -> KafkaClient {
    let path = |name: &str| gate.path(name).display().to_string();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", gate.address());
    let sasl = if mechanism == "-" { "" } else { "sasl_" };
    let under = if tls == ProxyTls::Off { "plaintext" } else { "ssl" };
    client.set("security.protocol", format!("{sasl}{under}"));
    if mechanism != "-" {
        client.set("sasl.mechanism", mechanism);
        client
            .set("sasl.username", KafkaAuthProxy::USER)
            .set("sasl.password", KafkaAuthProxy::PASSWORD);
    }
    if tls != ProxyTls::Off {
        client.set("ssl.ca.location", path("ca"));
        client.set("ssl.certificate.location", path("client"));
        client.set("ssl.key.location", path("client.key"));
    }
    KafkaClient::with(client)
}

/// The first message of all topics.
fn first(client: &KafkaClient) -> Vec<KafkaMessage> {
    client.read(&TOPICS, PARTITIONS, |found| !found.is_empty())
}

fn config(gate: &KafkaAuthProxy) -> KafkaConfig {
    KafkaConfig { timeout: Duration::from_secs(2), ..KafkaConfig::new(vec![gate.address()]) }
}

fn sink(name: &str, config: KafkaConfig) -> SinkConfig {
    SinkConfig::new(name.to_owned(), SinkKind::Kafka(config))
}

fn authorities(folder: &Path, certificate: Option<Certificate>) -> TlsConfig {
    TlsConfig { ca_file: Some(folder.join("ca")), certificate }
}

#[test]
fn a_password_counts_by_each_mechanism_with_and_without_tls() {
    for (mechanism, tls) in [
        (KafkaMechanism::Plain, ProxyTls::ServerOnly),
        (KafkaMechanism::ScramSha256, ProxyTls::Off),
        (KafkaMechanism::ScramSha512, ProxyTls::Mutual),
    ] {
        let word = mechanism.as_str();
        let Some(gate) = gate(tls, word) else { return };
        let place = Place::with("wrong-password\n");
        let login = KafkaLogin {
            mechanism,
            user: KafkaAuthProxy::USER.to_owned(),
            password: place.secret(),
        };
        let certificate = Certificate { chain: gate.path("client"), key: gate.path("client.key") };
        let folder = gate.path("");
        let tls_of = (tls != ProxyTls::Off).then(|| authorities(&folder, Some(certificate)));
        let config = KafkaConfig { login: Some(login), tls: tls_of, ..config(&gate) };
        let name = format!("kafka-{word}");
        let told = "check user, password and sasl_mechanism";
        let hidden = ["wrong-password", KafkaAuthProxy::PASSWORD];
        let_in_when_right(&sink(&name, config), (&place, told), KafkaAuthProxy::PASSWORD, &hidden);
        let found = first(&client(&gate, tls, word));
        let ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["a0"], "{word}");
    }
}

#[test]
fn a_mechanism_that_the_broker_does_not_have_is_told() {
    let Some(gate) = gate(ProxyTls::Off, "SCRAM-SHA-512") else { return };
    let place = Place::with(KafkaAuthProxy::PASSWORD);
    let (mechanism, user) = (KafkaMechanism::Plain, KafkaAuthProxy::USER.to_owned());
    let login = KafkaLogin { mechanism, user, password: place.secret() };
    let config = KafkaConfig { login: Some(login), ..config(&gate) };
    let running = start(&[sink("kafka-mechanism", config)]);
    running.alerts(&["a0"]);
    wait_for_word(&running, "kafka-mechanism", "SCRAM-SHA-512");
}

#[test]
fn certificates_that_do_not_fit_are_told_and_wait() {
    let Some(gate) = gate(ProxyTls::Mutual, "-") else { return };
    let other = certificates();
    let certificate = |folder: &Path| {
        Some(Certificate { chain: folder.join("client"), key: folder.join("client.key") })
    };
    let (ours, theirs) = (gate.path(""), other.path());
    for (name, tls) in [
        ("kafka-authority", authorities(theirs, certificate(&ours))),
        ("kafka-uncertified", authorities(&ours, None)),
        ("kafka-stranger", authorities(&ours, certificate(theirs))),
        ("kafka-host-authorities", TlsConfig::default()),
    ] {
        let running = start(&[sink(name, KafkaConfig { tls: Some(tls), ..config(&gate) })]);
        running.alerts(&["a0"]);
        wait_for_word(&running, name, "check tls, ca_file, client_cert and client_key");
    }
    let tls = Some(authorities(&ours, certificate(&ours)));
    let running = start(&[sink("kafka-tls", KafkaConfig { tls, ..config(&gate) })]);
    running.alerts(&["a0"]);
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
    let found = first(&client(&gate, ProxyTls::Mutual, "-"));
    assert_eq!(found.len(), 1, "{found:?}");
}
