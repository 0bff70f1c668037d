//! NATS authentication: of the publisher and of the server. Errors are logged with the sink's name
//! and a remedy, alerts stay pending, and a correction applies without a restart.

use std::path::Path;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use sensor_tests::servers::Nats;
use sensor_tests::{certificates, wait_until};
use sensor_user::deliver::{NatsConfig, NatsLogin, SinkConfig, SinkKind};
use sensor_user::http::{Certificate, TlsConfig};
use serde_json::{Value, json};

use super::login::{SecretFile, assert_login_succeeds_after_correction, wait_for_log};
use super::nats::{config, server};
use super::start;

fn sink(name: &str, config: NatsConfig) -> SinkConfig {
    SinkConfig::new(name.to_owned(), SinkKind::Nats(config))
}

/// Number of messages in the sink's stream, read with `options`.
fn count(nats: &Nats, options: ConnectOptions) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Box::pin(options.connect(nats.address())).await.unwrap();
        let stream = jetstream::new(client).get_stream(NatsConfig::STREAM).await.unwrap();
        stream.get_info().await.unwrap().state.messages
    })
}

#[test]
fn a_password_is_checked_over_mutual_tls() {
    let folder = certificates();
    let path = |name: &str| folder.path().join(name);
    let more = format!(
        "authorization {{ user: sensor, password: \"right-password\" }}\n{}",
        tls_of(folder.path())
    );
    let Some(nats) = server(&more) else { return };
    let secret_file = SecretFile::with("wrong-password\n");
    let login = NatsLogin::Password { user: "sensor".to_owned(), password: secret_file.secret() };
    let certificate = Certificate { chain: path("client"), key: path("client.key") };
    let tls = TlsConfig { ca_file: Some(path("ca")), certificate: Some(certificate) };
    let config = NatsConfig { login, tls: Some(tls), ..config(&nats) };
    let error = format!(
        "the server refuses user \"sensor\" with the password in file {}; check both",
        secret_file.path.display()
    );
    let hidden = ["wrong-password", "right-password"];
    assert_login_succeeds_after_correction(
        &sink("nats-password", config),
        (&secret_file, &error),
        "right-password\n",
        &hidden,
    );
}

#[test]
fn a_token_is_checked() {
    let Some(nats) = server("authorization { token: \"right-token\" }") else { return };
    let secret_file = SecretFile::with("wrong-token\n");
    let config = NatsConfig { login: NatsLogin::Token(secret_file.secret()), ..config(&nats) };
    let error = format!("the server refuses the token in file {}", secret_file.path.display());
    let hidden = ["wrong-token", "right-token"];
    assert_login_succeeds_after_correction(
        &sink("nats-token", config),
        (&secret_file, &error),
        "right-token\n",
        &hidden,
    );
    assert_eq!(count(&nats, ConnectOptions::with_token("right-token".to_owned())), 1);
}

#[test]
fn a_new_login_applies_after_a_reload() {
    let Some(nats) = server("authorization { token: \"the-token\" }") else { return };
    let (old, new) = (SecretFile::with("old-one"), SecretFile::with("the-token"));
    let with = |secret_file: &SecretFile| {
        let login = NatsLogin::Token(secret_file.secret());
        sink("nats-reload", NatsConfig { login, ..config(&nats) })
    };
    let mut running = start(&[with(&old)]);
    running.alerts(&["a0"]);
    wait_for_log(&running, "nats-reload", "the server refuses the token in file ");
    let entered = running.runtime.enter();
    let done = running.deliverer.reload(&[with(&new)], Duration::from_secs(5)).unwrap();
    drop(entered);
    assert_eq!((done.added, done.changed, done.removed), (0, 1, 0));
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn an_nkey_seed_is_checked() {
    let (right, wrong) = (KeyPair::new_user(), KeyPair::new_user());
    let more = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", right.public_key());
    let Some(nats) = server(&more) else { return };
    let (right, wrong) = (right.seed().unwrap(), wrong.seed().unwrap());
    for (name, content, error) in [
        ("nats-nkey", wrong.as_str(), "the server refuses the nkey in file "),
        ("nats-no-seed", "no-seed-at-all", "holds no seed of an nkey; it is one line that"),
    ] {
        let secret_file = SecretFile::with(content);
        let config = NatsConfig { login: NatsLogin::Nkey(secret_file.secret()), ..config(&nats) };
        let hidden = [right.as_str(), content];
        assert_login_succeeds_after_correction(
            &sink(name, config),
            (&secret_file, error),
            &right,
            &hidden,
        );
    }
    assert_eq!(count(&nats, ConnectOptions::with_nkey(right)), 1, "the same alert twice");
}

#[test]
fn a_credentials_file_is_checked() {
    let (own, foreign) = (Operator::new(), Operator::new());
    let Some(nats) = server(&own.server()) else { return };
    let (right, wrong) = (own.credentials(None), foreign.credentials(None));
    let expired = own.credentials(Some(1));
    for (name, content, error) in [
        ("nats-creds", wrong.as_str(), "the server refuses the credentials in file "),
        ("nats-expired", &expired, "neither expired nor revoked?"),
        ("nats-no-creds", "no-creds", "holds no credentials of nats; name a file that `nsc` made"),
    ] {
        let secret_file = SecretFile::with(content);
        let config =
            NatsConfig { login: NatsLogin::Credentials(secret_file.secret()), ..config(&nats) };
        let seeds = [&right, content].map(|text| text.lines().find(|it| it.starts_with("SU")));
        let hidden: Vec<&str> = seeds.into_iter().flatten().collect();
        assert_login_succeeds_after_correction(
            &sink(name, config),
            (&secret_file, error),
            &right,
            &hidden,
        );
    }
    let options = ConnectOptions::with_credentials(&right).unwrap();
    assert_eq!(count(&nats, options), 1, "the same alert three times");
}

#[test]
fn a_missing_login_and_missing_permissions_are_reported() {
    let more = "authorization { users: [ \
        { user: sensor, password: pw, permissions: { publish: [\"$JS.API.>\"], subscribe: [\">\"] } } ] }";
    let Some(nats) = server(more) else { return };
    let running = start(&[sink("nats-nobody", config(&nats))]);
    running.alerts(&["a0"]);
    let error =
        "the server requires credentials; set user and password, token, nkey or credentials";
    wait_for_log(&running, "nats-nobody", error);
    drop(running);
    let secret_file = SecretFile::with("pw");
    let login = NatsLogin::Password { user: "sensor".to_owned(), password: secret_file.secret() };
    let running = start(&[sink("nats-rights", NatsConfig { login, ..config(&nats) })]);
    running.alerts(&["a0"]);
    let error = "let it publish to netsensor.>, to $JS.API.> and subscribe to _INBOX.>";
    wait_for_log(&running, "nats-rights", error);
}

#[test]
fn invalid_certificates_are_reported_and_alerts_wait() {
    let (folder, other) = (certificates(), certificates());
    let Some(nats) = server(&tls_of(folder.path())) else { return };
    let certificate = |folder: &Path| Certificate {
        chain: folder.join("client"),
        key: folder.join("client.key"),
    };
    let of = |ca: &Path, certificate| TlsConfig { ca_file: Some(ca.join("ca")), certificate };
    let (own, foreign) = (folder.path(), other.path());
    for (name, tls) in [
        ("nats-authority", Some(of(foreign, Some(certificate(own))))),
        ("nats-uncertified", Some(of(own, None))),
        ("nats-stranger", Some(of(own, Some(certificate(foreign))))),
        ("nats-host-authorities", None),
    ] {
        let running = start(&[sink(name, NatsConfig { tls, ..config(&nats) })]);
        running.alerts(&["a0"]);
        wait_for_log(&running, name, "check tls, ca_file, client_cert and client_key");
    }
    let right = of(own, Some(certificate(own)));
    let running = start(&[sink("nats-tls", NatsConfig { tls: Some(right), ..config(&nats) })]);
    running.alerts(&["a0"]);
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn the_second_server_is_used_when_the_first_is_unavailable() {
    let Some(nats) = server("") else { return };
    for _ in 0..4 {
        let away = format!("127.0.0.1:{}", sensor_tests::servers::free_port());
        let servers = vec![away, nats.address()];
        let running = start(&[sink("nats-two", NatsConfig { servers, ..config(&nats) })]);
        running.alerts(&["a0"]);
        wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
        assert_eq!(running.stats.deliveries_retried.value(), 0);
        assert_eq!(running.drain().1, []);
    }
}

/// TLS with certificates on both sides.
fn tls_of(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server"),
        path("server.key"),
        path("ca")
    )
}

/// An operator that certifies accounts, as `nsc` does, and an account with `JetStream`.
struct Operator {
    key: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    fn new() -> Self {
        Self {
            key: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            system: KeyPair::new_account(),
        }
    }

    /// The configuration of a server that trusts only this operator.
    fn server(&self) -> String {
        let certified = |key: &KeyPair, limits: Value| {
            let nats = json!({ "type": "account", "version": 2, "limits": limits });
            format!("{}: \"{}\"", key.public_key(), signed(&self.key, key, None, &nats))
        };
        // The system account may not have streams.
        let limits = |streams: i64| {
            json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": streams,
                "disk_storage": streams, "streams": streams, "consumer": streams })
        };
        let system = certified(&self.system, limits(0));
        let account = certified(&self.account, limits(-1));
        let nats = json!({ "type": "operator", "version": 2 });
        format!(
            "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n{system}\n{account}\n}}",
            signed(&self.key, &self.key, None, &nats),
            self.system.public_key()
        )
    }

    /// The credentials file of a user of the account, valid until `expires` (seconds since 1970).
    fn credentials(&self, expires: Option<u64>) -> String {
        let user = KeyPair::new_user();
        let nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            signed(&self.account, &user, expires, &nats),
            user.seed().unwrap()
        )
    }
}

/// A JWT of NATS: `issuer` certifies `subject`.
fn signed(issuer: &KeyPair, subject: &KeyPair, expires: Option<u64>, nats: &Value) -> String {
    // An expiry of 0 means none.
    let claims = json!({ "jti": "id", "iat": 1, "iss": issuer.public_key(),
        "exp": expires.unwrap_or(0), "sub": subject.public_key(), "name": "netsensor",
        "nats": nats });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = format!("{}.{}", part(&head), part(&claims));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}
