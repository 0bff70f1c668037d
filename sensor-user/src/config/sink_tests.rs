//! Tests of `[[sink]]`: keys of each kind, and the reports of mistakes.

use super::tests::problems;

pub(super) fn sink(more: &str) -> String {
    format!("[[sink]]\nname = 's'\n{more}")
}

fn azure(more: &str) -> String {
    sink(&format!("kind = 'azure'\nendpoint = 'https://e/'\ndcr = 'd'\n{more}"))
}

#[test]
fn a_sink_has_the_keys_of_its_kind_only() {
    let cases = [
        (sink("kind = 'readable'"), "3: sink.kind: \"readable\" was renamed; use \"console\""),
        (
            sink("kind = 'tape'\npath = '/x'"),
            "3: sink.kind: \"tape\" is not known here; use \"stdout\" or \"console\" or \"file\" or \"http\" or \"parquet\" or \"azure\" or \"splunk\" or \"elasticsearch\" or \"otlp\" or \"syslog\" or \"nats\" or \"kafka\"",
        ),
        (sink("kind = 'http'"), "1: sink.url: is missing; set it to an http: or https: URL"),
        (sink("kind = 'file'"), "1: sink.path: is missing; set it to an absolute path in quotes"),
        (
            sink("kind = 'stdout'\nurl = 'http://h/'"),
            "4: sink.url: has no meaning for kind \"stdout\", only for \"http\" or \"splunk\" or \"elasticsearch\" or \"otlp\"",
        ),
        (
            sink("kind = 'http'\nurl = 'http://h/'\npath = '/x'"),
            "5: sink.path: has no meaning for kind \"http\", only for \"file\" or \"parquet\"",
        ),
        (
            sink("kind = 'http'\nurl = 'https://h/'\nheaders = { X-A = \"a\\r\\nX-B: b\" }"),
            "5: sink.headers: X-A: has a line break or another control character, which no header can have; leave it out",
        ),
        (
            sink("kind = 'stdout'\ntakes = ['alert']"),
            "4: sink.takes[0]: \"alert\" is not known here; use \"alerts\" or \"rows\" or \"health\"",
        ),
        (
            sink("kind = 'stdout'\ntakes = []"),
            "4: sink.takes: is empty; use [\"alerts\"], [\"rows\"], [\"health\"] or several",
        ),
        (
            sink("kind = 'console'\ntakes = ['rows']"),
            "4: sink.takes: only alerts have a text form; use [\"alerts\"]",
        ),
        (
            sink("kind = 'parquet'\npath = '/x'\ntakes = ['rows', 'alerts']"),
            "5: sink.takes: only rows have columns of a table; use [\"rows\"]",
        ),
        (
            sink("kind = 'file'\npath = '/x'\nfile_age = '1h'"),
            "5: sink.file_age: has no meaning for kind \"file\", only for \"parquet\"",
        ),
        (
            sink("kind = 'stdout'\nqueue = 0"),
            "4: sink.queue: 0 is out of range; use a whole number from 1 to 1000000",
        ),
        (
            sink("kind = 'stdout'\nbatch_wait = '1h'"),
            "4: sink.batch_wait: \"1h\" is out of range; use 10ms to 10m",
        ),
        (
            sink("kind = 'stdout'\n[[sink]]\nname = 's'\nkind = 'stdout'"),
            "5: sink.name: \"s\" is taken by line 2; use another name",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(problems(&text), [message], "{text}");
    }
}

#[test]
fn an_http_sink_has_the_keys_of_its_protocol() {
    let cases = [
        (
            sink("kind = 'splunk'\nurl = 'https://h/'"),
            "1: sink.token: is missing; set it to { file = \"/path\" } or { credential = \"NAME\" }",
        ),
        (
            sink(
                "kind = 'splunk'\nurl = 'https://h/'\ntoken = { file = '/t' }\nack_timeout = '1m'",
            ),
            "6: sink.ack_timeout: is of no use without acknowledge = true",
        ),
        (
            sink(
                "kind = 'splunk'\nurl = 'https://h/'\ntoken = { file = '/t' }\ntoken_scheme = 'X'",
            ),
            "6: sink.token_scheme: has no meaning for kind \"splunk\", only for \"http\" or \"elasticsearch\" or \"otlp\"",
        ),
        (
            sink("kind = 'otlp'\nurl = 'https://h/'\nindex = 'i'"),
            "5: sink.index: has no meaning for kind \"otlp\", only for \"splunk\"",
        ),
        (
            sink("kind = 'elasticsearch'\nurl = 'https://h/'\nalerts_index = 'a/b'"),
            "5: sink.alerts_index: \"a/b\" is not a name; use letters, digits, -, _, . and parentheses in quotes",
        ),
        (
            azure("managed_identity = true\nurl = 'http://h/'"),
            "7: sink.url: has no meaning for kind \"azure\", only for \"http\" or \"splunk\" or \"elasticsearch\" or \"otlp\"",
        ),
        (
            azure("managed_identity = true\ntenant = 't'"),
            "7: sink.tenant: has no meaning with managed_identity; leave one of them out",
        ),
        (
            azure("managed_identity = true\nbatch_bytes = '1MiB'"),
            "7: sink.batch_bytes: is over what Azure takes in a request; use 900KiB or less",
        ),
        (
            azure("managed_identity = true\nstreams = { VM = 's' }"),
            "7: sink.streams: \"VM\" is no table; known are VMConnection, VMBoundPort, VMProcess, VMComputer, NetsensorLoss, NetsensorHealth",
        ),
        (
            azure("tenant = 't'\nclient_id = 'c'\nclient_secret = 'hunter2'"),
            "8: sink.client_secret: a secret must not be in this file; use { file = \"/path\" } or { credential = \"NAME\" }",
        ),
        (
            azure("managed_identity = true\nformat = 'ecs'"),
            "7: sink.format: has no meaning for kind \"azure\", only for \"stdout\" or \"file\" or \"http\" or \"splunk\" or \"elasticsearch\" or \"otlp\" or \"syslog\" or \"nats\" or \"kafka\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(problems(&text), [message], "{text}");
    }
}

#[test]
fn formats_and_message_brokers_are_checked() {
    for (text, message) in [
        (
            sink("kind = 'stdout'\ntakes = ['alerts', 'rows']\nformat = 'cef'"),
            "5: sink.format: \"cef\" has words for alerts only; use takes = [\"alerts\"]",
        ),
        (
            sink("kind = 'console'\nformat = 'ecs'"),
            "4: sink.format: has no meaning for kind \"console\", only for \"stdout\" or \"file\" or \"http\" or \"splunk\" or \"elasticsearch\" or \"otlp\" or \"syslog\" or \"nats\" or \"kafka\"",
        ),
        (
            sink("kind = 'stdout'\nformat = 'leef'"),
            "4: sink.format: \"leef\" is not known here; use \"native\" or \"ecs\" or \"ocsf\" or \"cef\"",
        ),
        (
            sink("kind = 'nats'"),
            "1: sink.servers: is missing; set it to a list of hosts and ports, such as [\"server.example.net:4222\"]",
        ),
        (
            sink(
                "kind = 'nats'\nservers = ['h:1']\nuser = 'u'\npassword = { file = '/p' }\nnkey = { file = '/n' }",
            ),
            "7: sink.nkey: is one more login; leave all but one out",
        ),
        (
            sink("kind = 'nats'\nservers = ['h:1']\ntoken = 'secret'"),
            "5: sink.token: a secret must not be in this file; use { file = \"/path\" } or { credential = \"NAME\" }",
        ),
        (
            sink("kind = 'nats'\nservers = ['h:1']\nsubject_prefix = 'a.*'"),
            "5: sink.subject_prefix: \"a.*\" is not a subject prefix; use letters, digits, -, _ and . between two parts, such as \"netsensor\"",
        ),
    ] {
        assert_eq!(problems(&text), [message], "{text}");
    }
}

#[test]
fn kafka_is_known_in_every_build_and_refused_where_it_is_not_built_in() {
    let text = "[[sink]]\nname = 's'\nkind = 'kafka'\nservers = ['h:1']";
    let built_in = crate::deliver::KafkaConfig::IS_BUILT_IN;
    if !built_in {
        let why = "3: sink.kind: \"kafka\" is not in this build; build with --features kafka";
        assert_eq!(problems(text), [why]);
    }
    let text = format!("{text}\nproperties = {{ 'sasl.password' = 'x' }}");
    let found = problems(&text);
    let last = found.last().unwrap();
    assert!(last.starts_with("5: sink.properties: sasl.password holds a secret"), "{last}");
    let found = problems(&text.replace("'sasl.password'", "acks"));
    assert!(found.last().unwrap().contains("\"acks\" is set by the agent"), "{found:?}");
    let text = "[[sink]]\nname = 's'\nkind = 'kafka'\nservers = ['h:1']\nuser = 'u'";
    let found = problems(text);
    let alone = "5: sink.user: is of no use alone; set sasl_mechanism, user and password";
    assert_eq!(found.last().unwrap(), alone);
    let found = problems(&text.replace("user = 'u'", "sasl_mechanism = 'GSSAPI'"));
    let form = "use \"PLAIN\" or \"SCRAM-SHA-256\" or \"SCRAM-SHA-512\"";
    assert!(found.iter().any(|it| it.contains(form)), "{found:?}");
    let text = format!(
        "{text}\npassword = {{ file = '/p' }}\nsasl_mechanism = 'PLAIN'\nproperties = {{ 'sasl.username' = 'x' }}"
    );
    let found = problems(&text);
    let twice = "8: sink.properties: \"sasl.username\" follows from user and tls; leave it out";
    assert_eq!(found.last().unwrap(), twice);
}
