//! The keys of `kind = "kafka"`.

use toml::de::DeValue;

use super::base_dirs::BaseDirs;
use super::reader::Section;
use super::sections::{MINUTE, SECOND};
use super::{remote, sink_stream, values};
use crate::deliver::{KafkaConfig, KafkaLogin, KafkaMechanism, PropertyText};

pub(super) fn kafka(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<KafkaConfig> {
    if !KafkaConfig::IS_BUILT_IN {
        section.note("kind", "\"kafka\" is not in this build; build with --features kafka");
    }
    let servers = sink_stream::servers(section, "hosts and ports, as \"kafka.example.net:9092\"");
    let alerts_topic = section.read("alerts_topic", topic);
    let rows_topic = section.read("rows_topic", topic);
    let health_topic = section.read("health_topic", topic);
    let login = login(section, place);
    let tls = sink_stream::tls(section);
    let has_login = section.has("user");
    let properties = section.read("properties", |value| {
        let all = properties(value, place)?;
        let is_of_login = |name: &str| name == "security.protocol" || name.starts_with("sasl.");
        match all.iter().find(|(name, _)| has_login && is_of_login(name)) {
            Some((name, _)) => Err(format!("{name:?} follows from user and tls; leave it out")),
            None => Ok(all),
        }
    });
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    let usual = KafkaConfig::new(servers?);
    Some(KafkaConfig {
        alerts_topic: alerts_topic.unwrap_or(usual.alerts_topic),
        rows_topic: rows_topic.unwrap_or(usual.rows_topic),
        health_topic: health_topic.unwrap_or(usual.health_topic),
        login,
        tls,
        properties: properties.unwrap_or_default(),
        timeout: timeout.unwrap_or(KafkaConfig::TIMEOUT),
        servers: usual.servers,
    })
}

/// Who produces: three keys that belong together, or none.
fn login(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<KafkaLogin> {
    let mechanism =
        section.read("sasl_mechanism", |value| values::word(&KafkaMechanism::WORDS, value));
    let user = section.read("user", values::text);
    let password = section.read("password", |value| remote::secret(value, place));
    let keys = ["sasl_mechanism", "user", "password"];
    section.together(&keys, "sasl_mechanism, user and password");
    let mechanism = mechanism.and_then(|index| KafkaMechanism::ALL.get(index)).copied();
    Some(KafkaLogin { mechanism: mechanism?, user: user?, password: password? })
}

/// A topic's name, as Kafka allows it.
fn topic(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = !text.is_empty() && text.len() <= 249 && text.chars().all(plain);
    if is_name && text != "." && text != ".." {
        return Ok(text);
    }
    Err(format!("{text:?} is not a topic; use 1 to 249 letters, digits, ., _ or -"))
}

/// Properties by name. One that holds a secret names its place.
fn properties(
    value: &DeValue<'_>,
    place: BaseDirs<'_>,
) -> Result<Vec<(String, PropertyText)>, String> {
    let form = "{ \"sasl.username\" = \"u\", \"sasl.password\" = { file = \"/path\" } }";
    let Some(table) = value.as_table() else { return Err(format!("is not a table; use {form}")) };
    let mut all = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if KafkaConfig::RESERVED.contains(&name) {
            return Err(format!("{name:?} is set by the agent; leave it out"));
        }
        let told = |error| format!("{name}: {error}");
        let is_secret =
            name.contains("password") || name.contains("secret") || name.contains(".pem");
        let text = match value.get_ref() {
            DeValue::Table(_) => {
                PropertyText::Secret(remote::secret(value.get_ref(), place).map_err(told)?)
            }
            _ if is_secret => {
                return Err(format!(
                    "{name} holds a secret, which does not stand in this file; use {{ file = \
                     \"/path\" }} or {{ credential = \"NAME\" }}"
                ));
            }
            other => PropertyText::Plain(values::text(other).map_err(told)?),
        };
        all.push((name.to_owned(), text));
    }
    Ok(all)
}
