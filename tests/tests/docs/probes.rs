//! The configuration readers' own descriptions of their keys: each reader is given invalid values,
//! and reports the accepted form in the words that an operator reads.

use std::path::Path;
use std::time::Duration;

use sensor_user::base::environment::Environment;
use sensor_user::config::{Config, ConfigError};

/// The readers of one section, or of one kind of `[[feed]]` or `[[sink]]`.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) section: String,
    /// "" if the section has no kinds.
    pub(crate) kind: String,
    /// The mandatory keys of the section, in one or several variants.
    bases: Vec<String>,
}

/// Further keys that a key depends on.
const REQUIRED_WITH: &[(&str, &str)] = &[
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
    ("console", ""),
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

/// Candidate values; for any key at least one differs from its default.
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

/// The readers of all sections.
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

/// The names of all sections, from the error for an unknown one.
fn sections() -> Vec<String> {
    let problems = parse("[zzzzzzzzzzzzzzzzzzzzzzzz]").unwrap_err();
    let (_, known) = problems[0].split_once("known are ").unwrap();
    known.split(", ").map(str::to_owned).collect()
}

/// The configuration, or its errors.
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
    /// The keys that are valid here.
    pub(crate) fn keys(&self) -> Vec<String> {
        let text = format!("{}zzzzzzzzzzzzzzzzzzzzzzzz = 1\n", self.bases[0]);
        let problems = parse(&text).unwrap_err();
        let known = problems.iter().find_map(|problem| problem.split_once("known are "));
        let all = known.unwrap().1.split(", ").map(str::to_owned);
        all.filter(|key| self.form(key).is_some()).collect()
    }

    /// The form that `key` accepts; `None` if it has no meaning here.
    pub(crate) fn form(&self, key: &str) -> Option<String> {
        let base = self.base_for(key)?;
        let problem = self.problem_with(base, key, "1979-05-27")?;
        let form =
            problem.split_once("; use ").map_or(problem.as_str(), |(_, form)| form).to_owned();
        let range = ["'90000years'", "9223372036854775807"].into_iter().find_map(|value| {
            let problem = self.problem_with(base, key, value)?;
            problem.split_once("is out of range; use ").map(|(_, range)| range.to_owned())
        });
        Some(match range {
            Some(range) if form.starts_with("a duration") => {
                format!("a duration, {}", exact_units(&range))
            }
            Some(range) if form.starts_with("a size") => format!("a size, {range}"),
            _ => form,
        })
    }

    /// True if the section is invalid without `key`.
    pub(crate) fn requires(&self, key: &str) -> bool {
        let Some(base) = self.base_for(key) else { return false };
        let problems = parse(&text(base, key, None)).err().unwrap_or_default();
        let own = format!("{}.{key}: ", self.section);
        problems.iter().any(|problem| {
            let text = problem.strip_prefix(&own).unwrap_or_default();
            text.starts_with("is missing") || text.starts_with("names none")
        })
    }

    /// True if `key = value` is the same as no value; `None` if this build lacks the kind.
    pub(crate) fn is_default(&self, key: &str, value: &str) -> Option<bool> {
        let base = self.base_for(key)?;
        let without = parse(&text(base, key, None));
        if without.as_ref().is_err_and(|all| all.iter().any(|it| it.contains("not in this build")))
        {
            return None;
        }
        Some(without.is_ok() && without == parse(&text(base, key, Some(value))))
    }

    /// True if a running agent needs a restart for another value of `key`; `None` if no other value
    /// is known.
    pub(crate) fn needs_restart(&self, key: &str) -> Option<bool> {
        let base = self.base_for(key)?;
        let usual = parse(&text(base, key, None)).or_else(|_required| parse(base)).ok()?;
        let form = self.form(key)?;
        let words = form.split('"').skip(1).step_by(2).map(|word| format!("'{word}'"));
        let mut others = OTHERS.iter().map(|other| (*other).to_owned()).chain(words);
        others.find_map(|other| {
            let changed = parse(&text(base, key, Some(&other))).ok().filter(|it| *it != usual)?;
            Some(!usual.needs_restart(&changed).is_empty())
        })
    }

    /// The variant of the section in which `key` has a meaning.
    fn base_for(&self, key: &str) -> Option<&str> {
        let is_valid = |base: &&String| {
            let problem = self.problem_with(base, key, "1979-05-27");
            problem.is_some_and(|problem| {
                !problem.contains("has no meaning") && !problem.contains("unknown key")
            })
        };
        self.bases.iter().find(is_valid).map(String::as_str)
    }

    /// The error for `key = value`.
    fn problem_with(&self, base: &str, key: &str, value: &str) -> Option<String> {
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
    let required =
        REQUIRED_WITH.iter().filter(|(name, _)| *name == key).flat_map(|(_, more)| more.lines());
    for line in required {
        let (name, _) = line.split_once(" = ").unwrap();
        if !lines.iter().any(|line| line.starts_with(&format!("{name} = "))) {
            lines.push(line.to_owned());
        }
    }
    lines.extend(value.map(|value| format!("{key} = {value}")));
    lines.join("\n")
}

/// Formats a range of durations in the largest exact units.
fn exact_units(range: &str) -> String {
    let format_one = |text: &str| {
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
        Some((from, to)) => format!("{} to {}", format_one(from), format_one(to)),
        None => range.to_owned(),
    }
}
