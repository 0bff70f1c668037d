//! Effective configuration as TOML, for `netsensor check-config`.

use std::fmt::Write as _;

use crate::base::escape::visible;
use crate::config::{Config, KeyDefault};

/// Returns every key with its value in force; defaults are commented out. Secrets are shown by their location, and the queries of
/// URLs, which may contain a secret, as `…`.
pub fn describe(config: &Config) -> String {
    let mut out = String::new();
    for section in &config.settings {
        let name = section.section;
        let header = if section.is_list { format!("[[{name}]]") } else { format!("[{name}]") };
        let _infallible = writeln!(out, "\n{header}");
        for key in &section.keys {
            let value = toml::Value::try_from(&key.value).ok().filter(|_| !key.value.is_null());
            let line = match (value, &key.default) {
                (Some(value), _) if key.is_set => format!("{} = {value}", key.name),
                (Some(value), _) => format!("#{} = {value}", key.name),
                (None, KeyDefault::Text(text)) if text != "none" => {
                    format!("# {}: {text}", key.name)
                }
                _ => continue,
            };
            let _infallible = writeln!(out, "{}", visible(&line));
        }
    }
    if config.feeds.is_empty() {
        out.push_str("\n# There is no [[feed]]: nothing will alert.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::environment::Environment;

    #[test]
    fn secrets_are_described_by_their_location() {
        let text = "[[feed]]\nname = 'a'\nkind = 'taxii2'\nurl = 'https://h/t?k=hunter2'\nuser = 'u'\npassword = { file = '/p' }\nproxy = 'none'";
        let environment = Environment { home: Some("/h".into()), ..Environment::default() };
        let config = Config::parse(text, Path::new("/etc/n.toml"), &environment).unwrap();
        let text = describe(&config);
        for line in [
            "url = \"https://h/t?…\"",
            "#interval = \"1h\"",
            "# collections: all that may be read",
            "user = \"u\"",
            "password = { file = \"/p\" }",
            "proxy = \"none\"",
        ] {
            assert!(text.lines().any(|each| each == line), "{line:?} in\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
