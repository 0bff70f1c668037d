//! NATS: who publishes, and who is asked. What is wrong is told by the sink's name with what to do
//! about it, alerts wait, and what is put right counts without a new start.

use std::path::Path;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use sensor_tests::servers::Nats;
use sensor_tests::{certificates, wait_until};
use sensor_user::deliver::{NatsConfig, NatsLogin, SinkConfig, SinkKind};
use sensor_user::web::{Certificate, TlsConfig};
use serde_json::{Value, json};

use super::login::{Place, let_in_when_right, wait_for_word};
use super::nats::{config, server};
use super::start;

fn sink(name: &str, config: NatsConfig) -> SinkConfig {
    SinkConfig::new(name.to_owned(), SinkKind::Nats(config))
}

/// How many messages the sink's stream has for somebody who reads with `options`.
fn count(nats: &Nats, options: ConnectOptions) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Box::pin(options.connect(nats.address())).await.unwrap();
        let stream = jetstream::new(client).get_stream(NatsConfig::STREAM).await.unwrap();
        stream.get_info().await.unwrap().state.messages
    })
}

#[test]
fn a_password_counts_over_a_connection_with_certificates_on_both_sides() {
    let folder = certificates();
    let path = |name: &str| folder.path().join(name);
    let more = format!(
        "authorization {{ user: sensor, password: \"right-password\" }}\n{}",
        tls_of(folder.path())
    );
    let Some(nats) = server(&more) else { return };
    let place = Place::with("wrong-password\n");
    let login = NatsLogin::Password { user: "sensor".to_owned(), password: place.secret() };
    let certificate = Certificate { chain: path("client"), key: path("client.key") };
    let tls = TlsConfig { ca_file: Some(path("ca")), certificate: Some(certificate) };
    let config = NatsConfig { login, tls: Some(tls), ..config(&nats) };
    let told = format!(
        "the server refuses user \"sensor\" with the password in file {}; check both",
        place.path.display()
    );
    let hidden = ["wrong-password", "right-password"];
    let_in_when_right(&sink("nats-password", config), (&place, &told), "right-password\n", &hidden);
}

#[test]
fn a_token_counts() {
    let Some(nats) = server("authorization { token: \"right-token\" }") else { return };
    let place = Place::with("wrong-token\n");
    let config = NatsConfig { login: NatsLogin::Token(place.secret()), ..config(&nats) };
    let told = format!("the server refuses the token in file {}", place.path.display());
    let hidden = ["wrong-token", "right-token"];
    let_in_when_right(&sink("nats-token", config), (&place, &told), "right-token\n", &hidden);
    assert_eq!(count(&nats, ConnectOptions::with_token("right-token".to_owned())), 1);
}

#[test]
fn another_login_counts_after_a_reload() {
    let Some(nats) = server("authorization { token: \"the-token\" }") else { return };
    let (old, new) = (Place::with("old-one"), Place::with("the-token"));
    let with = |place: &Place| {
        let login = NatsLogin::Token(place.secret());
        sink("nats-reload", NatsConfig { login, ..config(&nats) })
    };
    let mut running = start(&[with(&old)]);
    running.alerts(&["a0"]);
    wait_for_word(&running, "nats-reload", "the server refuses the token in file ");
    let entered = running.runtime.enter();
    let done = running.deliverer.reload(&[with(&new)], Duration::from_secs(5)).unwrap();
    drop(entered);
    assert_eq!((done.added, done.changed, done.removed), (0, 1, 0));
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn the_seed_of_an_nkey_counts() {
    let (right, wrong) = (KeyPair::new_user(), KeyPair::new_user());
    let more = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", right.public_key());
    let Some(nats) = server(&more) else { return };
    let (right, wrong) = (right.seed().unwrap(), wrong.seed().unwrap());
    for (name, content, told) in [
        ("nats-nkey", wrong.as_str(), "the server refuses the nkey in file "),
        ("nats-no-seed", "no-seed-at-all", "holds no seed of an nkey; it is one line that"),
    ] {
        let place = Place::with(content);
        let config = NatsConfig { login: NatsLogin::Nkey(place.secret()), ..config(&nats) };
        let hidden = [right.as_str(), content];
        let_in_when_right(&sink(name, config), (&place, told), &right, &hidden);
    }
    assert_eq!(count(&nats, ConnectOptions::with_nkey(right)), 1, "the same alert twice");
}

#[test]
fn a_file_of_credentials_counts() {
    let (ours, others) = (Operator::new(), Operator::new());
    let Some(nats) = server(&ours.server()) else { return };
    let (right, wrong) = (ours.credentials(None), others.credentials(None));
    let expired = ours.credentials(Some(1));
    for (name, content, told) in [
        ("nats-creds", wrong.as_str(), "the server refuses the credentials in file "),
        ("nats-expired", &expired, "neither expired nor revoked?"),
        ("nats-no-creds", "no-creds", "holds no credentials of nats; name a file that `nsc` made"),
    ] {
        let place = Place::with(content);
        let config = NatsConfig { login: NatsLogin::Credentials(place.secret()), ..config(&nats) };
        let seeds = [&right, content].map(|text| text.lines().find(|it| it.starts_with("SU")));
        let hidden: Vec<&str> = seeds.into_iter().flatten().collect();
        let_in_when_right(&sink(name, config), (&place, told), &right, &hidden);
    }
    let options = ConnectOptions::with_credentials(&right).unwrap();
    assert_eq!(count(&nats, options), 1, "the same alert three times");
}

#[test]
fn nobody_is_told_to_log_in_and_missing_rights_are_told() {
    let more = "authorization { users: [ \
        { user: sensor, password: pw, permissions: { publish: [\"$JS.API.>\"], subscribe: [\">\"] } } ] }";
    let Some(nats) = server(more) else { return };
    let running = start(&[sink("nats-nobody", config(&nats))]);
    running.alerts(&["a0"]);
    let told = "the server asks who publishes; set user and password, token, nkey or credentials";
    wait_for_word(&running, "nats-nobody", told);
    drop(running);
    let place = Place::with("pw");
    let login = NatsLogin::Password { user: "sensor".to_owned(), password: place.secret() };
    let running = start(&[sink("nats-rights", NatsConfig { login, ..config(&nats) })]);
    running.alerts(&["a0"]);
    let told = "let it publish to netsensor.>, to $JS.API.> and subscribe to _INBOX.>";
    wait_for_word(&running, "nats-rights", told);
}

#[test]
fn certificates_that_do_not_fit_are_told_and_wait() {
    let (folder, other) = (certificates(), certificates());
    let Some(nats) = server(&tls_of(folder.path())) else { return };
    let certificate = |folder: &Path| Certificate {
        chain: folder.join("client"),
        key: folder.join("client.key"),
    };
    let of = |ca: &Path, certificate| TlsConfig { ca_file: Some(ca.join("ca")), certificate };
    let (ours, theirs) = (folder.path(), other.path());
    for (name, tls) in [
        ("nats-authority", Some(of(theirs, Some(certificate(ours))))),
        ("nats-uncertified", Some(of(ours, None))),
        ("nats-stranger", Some(of(ours, Some(certificate(theirs))))),
        ("nats-host-authorities", None),
    ] {
        let running = start(&[sink(name, NatsConfig { tls, ..config(&nats) })]);
        running.alerts(&["a0"]);
        wait_for_word(&running, name, "check tls, ca_file, client_cert and client_key");
    }
    let right = of(ours, Some(certificate(ours)));
    let running = start(&[sink("nats-tls", NatsConfig { tls: Some(right), ..config(&nats) })]);
    running.alerts(&["a0"]);
    wait_until("it arrives", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
}

#[test]
fn the_second_server_is_asked_where_the_first_is_away() {
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

/// Who certifies accounts, as `nsc` does, and one account with `JetStream`.
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

    /// A server that trusts this operator only.
    fn server(&self) -> String {
        let certified = |key: &KeyPair, limits: Value| {
            let nats = json!({ "type": "account", "version": 2, "limits": limits });
            format!("{}: \"{}\"", key.public_key(), signed(&self.key, key, None, &nats))
        };
        // The system's account may have no streams.
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

    /// The file of a user of the account, who expires then (seconds since 1970).
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

/// A JWT of nats: `issuer` certifies `subject`.
fn signed(issuer: &KeyPair, subject: &KeyPair, expires: Option<u64>, nats: &Value) -> String {
    // An end at 0 is none.
    let claims = json!({ "jti": "id", "iat": 1, "iss": issuer.public_key(),
        "exp": expires.unwrap_or(0), "sub": subject.public_key(), "name": "netsensor",
        "nats": nats });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = format!("{}.{}", part(&head), part(&claims));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}
