//! The keys of sinks with their own protocol over TCP or TLS.

use super::access::tls;
use super::form::{Form, boolean, choice, ensure, list, matching, name, text};
use super::key::keys;
use super::location::{host_and_port, secret, texts_and_secrets};
use super::section::Section;
use super::sink_http::timeout;
use crate::deliver::{
    Framing, KafkaConfig, KafkaLogin, KafkaMechanism, NatsConfig, NatsLogin, PropertyText,
    SyslogConfig,
};
use crate::http::HeaderText;

/// Facilities by their numbers (RFC 5424, table 1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

pub(super) fn syslog(section: &mut Section<'_, '_>) -> Option<SyslogConfig> {
    let framings = [("octets", Framing::Octets), ("newline", Framing::Newline)];
    let facilities: Vec<(&str, u8)> = FACILITIES.into_iter().zip(0..).collect();
    keys! { section, "sink syslog", RELOAD;
        /// Server.
        address: host_and_port() => required("HOST:PORT, such as \"logs.example.net:6514\"");
    }
    let tls = tls(section, "sink syslog");
    keys! { section, "sink syslog", RELOAD;
        /// Name that the server's certificate must contain.
        server_name: host() => optional("the host of `address`");
        /// `"octets"`: the length before each message (RFC 6587, 3.4.1); for syslog-ng this takes
        /// its source `syslog()`. `"newline"`: a newline after each message; for its `network()`.
        framing: choice(&framings) => default(Framing::Octets);
        /// Facility of the messages.
        facility: choice(&facilities) => default(SyslogConfig::FACILITY);
        /// `APP-NAME`.
        app_name: name() => default(SyslogConfig::APP_NAME.to_owned());
        /// `HOSTNAME`.
        hostname: host() => optional("the item's `Computer`");
        /// Name of the structured data. 32473 is the enterprise number for documentation;
        /// use your own.
        sd_id: sd_id() => default(SyslogConfig::SD_ID.to_owned());
        /// Limit of a connect, and of sending a batch.
        timeout: timeout() => default(SyslogConfig::TIMEOUT);
    }
    if tls.is_none() {
        let problem = "is of no use without TLS; set tls = true, or leave it out";
        section.refuse(&["server_name"], problem);
    }
    Some(SyslogConfig {
        address: address?,
        tls,
        server_name,
        framing,
        facility,
        app_name,
        hostname,
        sd_id,
        timeout,
    })
}

pub(super) fn nats(section: &mut Section<'_, '_>) -> Option<NatsConfig> {
    let servers = servers(section, "sink nats");
    let login = nats_login(section);
    let tls = tls(section, "sink nats");
    keys! { section, "sink nats", RELOAD;
        /// First part of the subjects.
        subject_prefix: subject() => default(NatsConfig::PREFIX.to_owned());
        /// Third part of the subjects.
        site: name() => default(NatsConfig::SITE.to_owned());
        /// Creates a stream for `PREFIX.alerts.>`, `PREFIX.rows.>` and `PREFIX.health.>` if
        /// none with that name exists: it keeps messages for 7 days and their ids for 10
        /// minutes. If this is false and no stream takes the subjects, the sink waits and
        /// logs the reason.
        create_stream: boolean() => default(false);
        /// Name of that stream.
        stream: name() => default(NatsConfig::STREAM.to_owned());
        /// Limit of a connect, and of the acknowledgements of a batch.
        timeout: timeout() => default(NatsConfig::TIMEOUT);
    }
    if !create_stream {
        let problem = "is of no use alone; set create_stream = true, or leave it out";
        section.refuse(&["stream"], problem);
    }
    Some(NatsConfig {
        servers: servers?,
        login,
        tls,
        prefix: subject_prefix,
        site,
        create_stream: create_stream.then_some(stream),
        timeout,
    })
}

/// One login, or none.
fn nats_login(section: &mut Section<'_, '_>) -> NatsLogin {
    keys! { section, "sink nats", RELOAD;
        /// User name of the publisher.
        user: text() => optional("none");
        /// Password of the publisher.
        password: secret() => optional("none");
        /// Alternative: a token.
        token: secret() => optional("none");
        /// Alternative: the seed of an nkey.
        nkey: secret() => optional("none");
        /// Alternative: a credentials file, as created by `nsc`.
        credentials: secret() => optional("none");
    }
    section.together(&["user", "password"], "user and password");
    let logins = ["user", "token", "nkey", "credentials"];
    let logins: Vec<&str> = logins.into_iter().filter(|key| section.has(key)).collect();
    if let [_, second, ..] = logins.as_slice() {
        section.add(second, "is one more login; leave all but one out");
    }
    let user = user.zip(password);
    user.map(|(user, password)| NatsLogin::Password { user, password })
        .or_else(|| token.map(NatsLogin::Token))
        .or_else(|| nkey.map(NatsLogin::Nkey))
        .or_else(|| credentials.map(NatsLogin::Credentials))
        .unwrap_or_default()
}

pub(super) fn kafka(section: &mut Section<'_, '_>) -> Option<KafkaConfig> {
    if !KafkaConfig::IS_BUILT_IN {
        section.add("kind", "\"kafka\" is not in this build; build with --features kafka");
    }
    let servers = servers(section, "sink kafka");
    let default = KafkaConfig::new(Vec::new());
    keys! { section, "sink kafka", RELOAD;
        /// Topic of alerts.
        alerts_topic: topic() => default(default.alerts_topic);
        /// Topic of rows.
        rows_topic: topic() => default(default.rows_topic);
        /// Topic of the agent's health lines.
        health_topic: topic() => default(default.health_topic);
    }
    let login = kafka_login(section);
    let tls = tls(section, "sink kafka");
    keys! { section, "sink kafka", RELOAD;
        /// Additional properties of librdkafka, as `{ "sasl.username" = "u",
        /// "sasl.password" = { file = "/path" } }`. The sink sets those of addresses,
        /// acknowledgement, idempotence and time itself; with `user`, also those of SASL
        /// and `security.protocol`.
        properties: properties(section.has("user")) => optional("none");
        /// Limit of the delivery of a message.
        timeout: timeout() => default(default.timeout);
    }
    Some(KafkaConfig {
        servers: servers?,
        alerts_topic,
        rows_topic,
        health_topic,
        login,
        tls,
        properties: properties.unwrap_or_default(),
        timeout,
    })
}

/// Credentials of the producer, or none.
fn kafka_login(section: &mut Section<'_, '_>) -> Option<KafkaLogin> {
    let mechanisms = KafkaMechanism::ALL.map(|mechanism| (mechanism.as_str(), mechanism));
    keys! { section, "sink kafka", RELOAD;
        /// SASL mechanism of the producer. `"PLAIN"` sends the password in clear text; use
        /// it with `tls` only.
        sasl_mechanism: choice(&mechanisms) => optional("none");
        /// User name.
        user: text() => optional("none");
        /// Password.
        password: secret() => optional("none");
    }
    let keys = ["sasl_mechanism", "user", "password"];
    section.together(&keys, "sasl_mechanism, user and password");
    Some(KafkaLogin { mechanism: sasl_mechanism?, user: user?, password: password? })
}

/// The servers of a cluster.
fn servers(section: &mut Section<'_, '_>, group: &'static str) -> Option<Vec<String>> {
    const FORM: &str = "a list of hosts and ports, such as [\"server.example.net:4222\"]";
    let form = list(host_and_port(), "HOST:PORT in quotes").checked(|servers: &Vec<_>| {
        ensure(!servers.is_empty(), || format!("is empty; set it to {FORM}"))
    });
    keys! { section, group, RELOAD;
        /// Servers of one cluster; for `"kafka"`, the bootstrap brokers.
        servers: form => required(FORM);
    }
    servers
}

fn at_most<const MAX: usize>(text: &String) -> Result<(), String> {
    ensure(text.len() <= MAX, || format!("{text:?} has more than {MAX} characters; shorten it"))
}

/// A subject prefix: words with a dot between two.
fn subject() -> Form<String> {
    let accepts = "letters, digits, -, _ and . between two parts, such as \"netsensor\"";
    matching("a subject prefix", accepts, r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
        .checked(at_most::<128>)
}

/// Name of a topic, as Kafka allows it: not `.` or `..`.
fn topic() -> Form<String> {
    let accepts = "1 to 249 letters, digits, ., _ or -";
    let pattern = r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$";
    matching("a topic", accepts, pattern).checked(at_most::<249>)
}

fn host() -> Form<String> {
    let accepts = "a host name in quotes such as \"logs.example.net\"";
    matching("a host name", accepts, "^[A-Za-z0-9._:-]{1,255}$")
}

/// Name of structured data (RFC 5424, section 6.3.2).
fn sd_id() -> Form<String> {
    let accepts = "1 to 32 letters, digits and signs, such as \"netsensor@32473\"";
    matching("a name of structured data", accepts, r"^[!#-<>-\\^-~]{1,32}$")
}

/// Properties of librdkafka by name. A secret property refers to its location.
fn properties(has_login: bool) -> Form<Vec<(String, PropertyText)>> {
    let accepts = "{ \"sasl.username\" = \"u\", \"sasl.password\" = { file = \"/path\" } }";
    let check = move |name: &str| {
        if KafkaConfig::RESERVED.contains(&name) {
            return Err(format!("{name:?} is set by the agent; leave it out"));
        }
        if has_login && (name == "security.protocol" || name.starts_with("sasl.")) {
            return Err(format!("{name:?} follows from user and tls; leave it out"));
        }
        Ok(())
    };
    let is_secret = |name: &str| ["password", "secret", ".pem"].iter().any(|it| name.contains(it));
    texts_and_secrets(accepts, check, is_secret).try_map(|properties| {
        let text = |text| match text {
            HeaderText::Plain(text) => PropertyText::Plain(text),
            HeaderText::Secret(secret) => PropertyText::Secret(secret),
        };
        Ok(properties.into_iter().map(|(name, value)| (name, text(value))).collect())
    })
}
