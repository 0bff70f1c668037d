//! Kafka authentication: of the producer (SASL) and of the server (TLS). Errors are logged with the
//! sink's name and a remedy, alerts stay pending, and a correction applies without a restart.

use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use sensor_tests::servers::{KafkaAuthProxy, KafkaClient, KafkaMessage, ProxyTls};
use sensor_tests::{certificates, skip_unless, wait_until};
use sensor_user::deliver::{KafkaConfig, KafkaLogin, KafkaMechanism, SinkConfig, SinkKind};
use sensor_user::http::{Certificate, TlsConfig};

use super::kafka::{PARTITIONS, TOPICS};
use super::login::{SecretFile, assert_login_succeeds_after_correction, wait_for_log};
use super::start;

/// A running broker with the topics; `None` if it is not installed (the test is skipped).
fn broker(tls: ProxyTls, mechanism: &str) -> Option<KafkaAuthProxy> {
    let broker = KafkaAuthProxy::start(tls, mechanism);
    if skip_unless(broker.is_some(), "tansu is missing: run cargo xtask test") {
        return None;
    }
    let broker = broker.unwrap();
    client(&broker, tls, mechanism).make_topics(&TOPICS, PARTITIONS);
    Some(broker)
}

/// Another client with valid credentials.
fn client(broker: &KafkaAuthProxy, tls: ProxyTls, mechanism: &str) -> KafkaClient {
    let path = |name: &str| broker.path(name).display().to_string();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker.address());
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

fn config(broker: &KafkaAuthProxy) -> KafkaConfig {
    KafkaConfig { timeout: Duration::from_secs(2), ..KafkaConfig::new(vec![broker.address()]) }
}

fn sink(name: &str, config: KafkaConfig) -> SinkConfig {
    SinkConfig::new(name.to_owned(), SinkKind::Kafka(config))
}

fn authorities(folder: &Path, certificate: Option<Certificate>) -> TlsConfig {
    TlsConfig { ca_file: Some(folder.join("ca")), certificate }
}

#[test]
fn a_password_is_checked_with_each_mechanism_with_and_without_tls() {
    for (mechanism, tls) in [
        (KafkaMechanism::Plain, ProxyTls::ServerOnly),
        (KafkaMechanism::ScramSha256, ProxyTls::Off),
        (KafkaMechanism::ScramSha512, ProxyTls::Mutual),
    ] {
        let word = mechanism.as_str();
        let Some(broker) = broker(tls, word) else { return };
        let secret_file = SecretFile::with("wrong-password\n");
        let login = KafkaLogin {
            mechanism,
            user: KafkaAuthProxy::USER.to_owned(),
            password: secret_file.secret(),
        };
        let certificate =
            Certificate { chain: broker.path("client"), key: broker.path("client.key") };
        let folder = broker.path("");
        let tls_config = (tls != ProxyTls::Off).then(|| authorities(&folder, Some(certificate)));
        let config = KafkaConfig { login: Some(login), tls: tls_config, ..config(&broker) };
        let name = format!("kafka-{word}");
        let error = "check user, password and sasl_mechanism";
        let hidden = ["wrong-password", KafkaAuthProxy::PASSWORD];
        assert_login_succeeds_after_correction(
            &sink(&name, config),
            (&secret_file, error),
            KafkaAuthProxy::PASSWORD,
            &hidden,
        );
        let found = first(&client(&broker, tls, word));
        let ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["a0"], "{word}");
    }
}

#[test]
fn an_unsupported_mechanism_is_reported() {
    let Some(broker) = broker(ProxyTls::Off, "SCRAM-SHA-512") else { return };
    let secret_file = SecretFile::with(KafkaAuthProxy::PASSWORD);
    let (mechanism, user) = (KafkaMechanism::Plain, KafkaAuthProxy::USER.to_owned());
    let login = KafkaLogin { mechanism, user, password: secret_file.secret() };
    let config = KafkaConfig { login: Some(login), ..config(&broker) };
    let running = start(&[sink("kafka-mechanism", config)]);
    running.alerts(&["a0"]);
    wait_for_log(&running, "kafka-mechanism", "SCRAM-SHA-512");
}

#[test]
fn invalid_certificates_are_reported_and_alerts_wait() {
    let Some(broker) = broker(ProxyTls::Mutual, "-") else { return };
    let other = certificates();
    let certificate = |folder: &Path| {
        Some(Certificate { chain: folder.join("client"), key: folder.join("client.key") })
    };
    let (own, foreign) = (broker.path(""), other.path());
    for (name, tls) in [
        ("kafka-authority", authorities(foreign, certificate(&own))),
        ("kafka-uncertified", authorities(&own, None)),
        ("kafka-stranger", authorities(&own, certificate(foreign))),
        ("kafka-host-authorities", TlsConfig::default()),
    ] {
        let running = start(&[sink(name, KafkaConfig { tls: Some(tls), ..config(&broker) })]);
        running.alerts(&["a0"]);
        wait_for_log(&running, name, "check tls, ca_file, client_cert and client_key");
    }
    let tls = Some(authorities(&own, certificate(&own)));
    let running = start(&[sink("kafka-tls", KafkaConfig { tls, ..config(&broker) })]);
    running.alerts(&["a0"]);
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
    let found = first(&client(&broker, ProxyTls::Mutual, "-"));
    assert_eq!(found.len(), 1, "{found:?}");
}
