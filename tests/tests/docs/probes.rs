//! What the readers of the configuration say of their own keys: each is given values that cannot be,
//! and answers with the form that it accepts, in the words that an operator reads.

use std::path::Path;
use std::time::Duration;

use sensor_user::base::environment::Environment;
use sensor_user::config::{Config, ConfigError};

/// The readers of one section, or of one kind of `[[feed]]` or `[[sink]]`.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) section: String,
    /// "" where the section has no kinds.
    pub(crate) kind: String,
    /// What its section must have, in one or several ways.
    bases: Vec<String>,
}

/// What must stand beside a key for it to mean something.
const BESIDE: &[(&str, &str)] = &[
    ("separator", "format = 'csv'\ncolumns = { address = 1 }"),
    ("group", "listen = 'unix:/s'"),
    ("keep", "max_size = '1MiB'"),
    ("ack_timeout", "acknowledge = true"),
    ("stream", "create_stream = true"),
    ("server_name", "tls = true"),
    ("ca_file", "tls = true"),
    ("client_cert", "tls = true\nclient_key = '/k'"),
    ("client_key", "tls = true\nclient_cert = '/c'"),
    ("user", "password = { file = '/p' }"),
    ("password", "user = 'u'"),
    ("token_header", "token = { file = '/t' }"),
    ("token_scheme", "token = { file = '/t' }"),
    ("proxy_user", "proxy = 'http://p/'\nproxy_password = { file = '/p' }"),
    ("proxy_password", "proxy = 'http://p/'\nproxy_user = 'u'"),
];

const FEEDS: &[(&str, &str)] = &[
    ("list", "url = 'https://h/'"),
    ("sentinel", "url = 'https://h/'"),
    (
        "sentinel",
        "workspace = 'w'\nsubscription = 's'\nresource_group = 'g'\ntenant = 't'\nclient_id = 'c'\nclient_secret = { file = '/s' }",
    ),
    ("stix", "url = 'https://h/'"),
    ("taxii2", "url = 'https://h/'"),
    ("misp", "url = 'https://h/'"),
    ("crowdsec", "url = 'https://h/'"),
];

const SINKS: &[(&str, &str)] = &[
    ("stdout", ""),
    ("readable", ""),
    ("file", "path = '/p'"),
    ("parquet", "path = '/p'"),
    ("http", "url = 'https://h/'"),
    (
        "azure",
        "endpoint = 'https://h/'\ndcr = 'd'\ntenant = 't'\nclient_id = 'c'\nclient_secret = { file = '/s' }",
    ),
    ("splunk", "url = 'https://h/'\ntoken = { file = '/t' }"),
    ("elasticsearch", "url = 'https://h/'"),
    ("otlp", "url = 'https://h/'"),
    ("syslog", "address = 'h:1'"),
    ("nats", "servers = ['h:1']"),
    ("kafka", "servers = ['h:1']"),
];

/// Values of which one is another than the default, whatever the key.
const OTHERS: &[&str] = &[
    "true",
    "false",
    "1",
    "2",
    "300",
    "100000",
    "'90s'",
    "'2h'",
    "'2days'",
    "'64KiB'",
    "'8MiB'",
    "'/x'",
    "'http://h/'",
    "'127.0.0.1:9477'",
    "'warn'",
    "'x'",
    "['udp_egress']",
    "['10.0.0.0/8']",
    "['/x']",
    "['rows']",
    "{ file = '/x' }",
    "['h:2']",
    "'h:2'",
    "\";\"",
];

/// All readers, of the sections that there are.
pub(crate) fn readers() -> Vec<Reader> {
    let mut readers = Vec::<Reader>::new();
    for section in sections() {
        let kinds: &[(&str, &str)] = match section.as_str() {
            "feed" => FEEDS,
            "sink" => SINKS,
            _ => &[("", "")],
        };
        for (kind, base) in kinds {
            let base = match *kind {
                "" => format!("[{section}]\n"),
                kind => format!("[[{section}]]\nname = 'n'\nkind = '{kind}'\n{base}\n"),
            };
            match readers.last_mut().filter(|it| it.section == section && it.kind == *kind) {
                Some(reader) => reader.bases.push(base),
                None => readers.push(Reader {
                    section: section.clone(),
                    kind: (*kind).to_owned(),
                    bases: vec![base],
                }),
            }
        }
    }
    readers
}

/// The sections that there are, as an unknown one is answered.
fn sections() -> Vec<String> {
    let problems = parse("[zzzzzzzzzzzzzzzzzzzzzzzz]").unwrap_err();
    let (_, known) = problems[0].split_once("known are ").unwrap();
    known.split(", ").map(str::to_owned).collect()
}

/// The configuration, or what is wrong with it.
fn parse(text: &str) -> Result<Config, Vec<String>> {
    let environment = Environment {
        home: Some("/home/user".into()),
        credentials_directory: Some("/run/credentials".into()),
        ..Environment::default()
    };
    match Config::parse(text, Path::new("/etc/n.toml"), &environment) {
        Ok(config) => Ok(config),
        Err(ConfigError::Invalid { problems, .. }) => {
            Err(problems.into_iter().map(|problem| problem.what).collect())
        }
        Err(other) => panic!("{other}"),
    }
}

impl Reader {
    /// Keys that mean something here.
    pub(crate) fn keys(&self) -> Vec<String> {
        let text = format!("{}zzzzzzzzzzzzzzzzzzzzzzzz = 1\n", self.bases[0]);
        let problems = parse(&text).unwrap_err();
        let known = problems.iter().find_map(|problem| problem.split_once("known are "));
        let all = known.unwrap().1.split(", ").map(str::to_owned);
        all.filter(|key| self.form(key).is_some()).collect()
    }

    /// The form that `key` accepts; `None` where it means nothing here.
    pub(crate) fn form(&self, key: &str) -> Option<String> {
        let base = self.base_of(key)?;
        let said = self.said(base, key, "1979-05-27")?;
        let form = said.split_once("; use ").map_or(said.as_str(), |(_, form)| form).to_owned();
        let range = ["'90000years'", "9223372036854775807"].into_iter().find_map(|value| {
            let said = self.said(base, key, value)?;
            said.split_once("is out of range; use ").map(|(_, range)| range.to_owned())
        });
        Some(match range {
            Some(range) if form.starts_with("a duration") => {
                format!("a duration, {}", exact(&range))
            }
            Some(range) if form.starts_with("a size") => format!("a size, {range}"),
            _ => form,
        })
    }

    /// Whether a section without `key` is no section.
    pub(crate) fn requires(&self, key: &str) -> bool {
        let Some(base) = self.base_of(key) else { return false };
        let problems = parse(&text(base, key, None)).err().unwrap_or_default();
        let own = format!("{}.{key}: ", self.section);
        problems.iter().any(|problem| {
            let said = problem.strip_prefix(&own).unwrap_or_default();
            said.starts_with("is missing") || said.starts_with("names none")
        })
    }

    /// Whether `key = value` is as if it was not there; `None` where this build has not the kind.
    pub(crate) fn is_default(&self, key: &str, value: &str) -> Option<bool> {
        let base = self.base_of(key)?;
        let without = parse(&text(base, key, None));
        if without.as_ref().is_err_and(|all| all.iter().any(|it| it.contains("not in this build")))
        {
            return None;
        }
        Some(without.is_ok() && without == parse(&text(base, key, Some(value))))
    }

    /// Whether a running agent takes another value of `key` only after a restart; `None` where no
    /// other value is known.
    pub(crate) fn needs_restart(&self, key: &str) -> Option<bool> {
        let base = self.base_of(key)?;
        let usual = parse(&text(base, key, None)).or_else(|_required| parse(base)).ok()?;
        let form = self.form(key)?;
        let words = form.split('"').skip(1).step_by(2).map(|word| format!("'{word}'"));
        let mut others = OTHERS.iter().map(|other| (*other).to_owned()).chain(words);
        others.find_map(|other| {
            let changed = parse(&text(base, key, Some(&other))).ok().filter(|it| *it != usual)?;
            Some(!usual.needs_restart(&changed).is_empty())
        })
    }

    /// The way to write the section in which `key` means something.
    fn base_of(&self, key: &str) -> Option<&str> {
        let means = |base: &&String| {
            let said = self.said(base, key, "1979-05-27");
            said.is_some_and(|said| {
                !said.contains("has no meaning") && !said.contains("unknown key")
            })
        };
        self.bases.iter().find(means).map(String::as_str)
    }

    /// What is said of `key = value`.
    fn said(&self, base: &str, key: &str, value: &str) -> Option<String> {
        let problems = parse(&text(base, key, Some(value))).err()?;
        let own = format!("{}.{key}: ", self.section);
        problems.iter().find_map(|problem| problem.strip_prefix(&own)).map(str::to_owned)
    }
}

/// The section with another value of `key`, or without it.
fn text(base: &str, key: &str, value: Option<&str>) -> String {
    let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(name, _)| name == key);
    let mut lines: Vec<String> =
        base.lines().filter(|line| !is_key(line)).map(str::to_owned).collect();
    let beside = BESIDE.iter().filter(|(name, _)| *name == key).flat_map(|(_, more)| more.lines());
    for line in beside {
        let (name, _) = line.split_once(" = ").unwrap();
        if !lines.iter().any(|line| line.starts_with(&format!("{name} = "))) {
            lines.push(line.to_owned());
        }
    }
    lines.extend(value.map(|value| format!("{key} = {value}")));
    lines.join("\n")
}

/// A range of durations in whole units of one kind.
fn exact(range: &str) -> String {
    let one = |text: &str| {
        let parsed = humantime::parse_duration(text).unwrap();
        let of = |seconds: u64, unit: &str| {
            let whole = parsed.as_secs() / seconds;
            let is_exact = whole > 0 && Duration::from_secs(whole * seconds) == parsed;
            is_exact.then(|| format!("{whole}{unit}"))
        };
        of(86_400, "d")
            .or_else(|| of(3600, "h"))
            .or_else(|| of(60, "m"))
            .unwrap_or_else(|| text.to_owned())
    };
    match range.split_once(" to ") {
        Some((from, to)) => format!("{} to {}", one(from), one(to)),
        None => range.to_owned(),
    }
}
