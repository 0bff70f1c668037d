//! The JSON Schema of the configuration file: the copy in `docs` is current, and the schema accepts
//! the examples and refuses mistakes.
//!
//! `NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-tests --test docs schema` writes the copy.

use jsonschema::Validator;
use sensor_tests::agent_command;
use serde_json::Value;

use super::markdown::documents;
use super::repository;

const PATH: &str = "docs/netsensor.schema.json";

fn printed_schema() -> String {
    let home = tempfile::tempdir().unwrap();
    let output = agent_command(home.path(), &["schema", "config"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The validator, which also checks the schema itself against the meta-schema of draft 2020-12.
fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&printed_schema()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// The errors of a configuration.
fn errors(validator: &Validator, text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap();
    let value = serde_json::to_value(table).unwrap();
    validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_published_schema_is_current() {
    let path = repository().join(PATH);
    let printed = printed_schema();
    if std::env::var_os("NETSENSOR_WRITE_DOCS").is_some() {
        std::fs::write(&path, printed).unwrap();
        return;
    }
    let remedy = "NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-tests --test docs schema";
    assert!(std::fs::read_to_string(&path).unwrap() == printed, "{PATH} is stale; {remedy}");
}

#[test]
fn the_schema_accepts_every_configuration() {
    let validator = validator();
    let mut texts = Vec::new();
    for path in ["examples/netsensor.toml", "packaging/netsensor.toml"] {
        texts.push((path.to_owned(), std::fs::read_to_string(repository().join(path)).unwrap()));
    }
    for block in documents().into_iter().flat_map(|document| document.blocks()) {
        if block.language == "toml" {
            let before = block.comment.strip_prefix("before:").unwrap_or_default();
            texts.push((block.location, format!("{before}\n{}", block.text)));
        }
    }
    assert!(texts.len() > 10, "{texts:?}");
    for (location, text) in texts {
        assert_eq!(errors(&validator, &text), Vec::<String>::new(), "{location}");
    }
}

#[test]
fn the_schema_refuses_mistakes() {
    let validator = validator();
    let feed = |more: &str| format!("[[feed]]\nname = 'a'\n{more}");
    let sink = |more: &str| format!("[[sink]]\nname = 'a'\n{more}");
    let valid = [
        feed("kind = 'misp'\nurl = 'https://h/'\nmode = 'search'\noverlap = '10m'"),
        sink("kind = 'nats'\nservers = ['h:1']\nuser = 'u'\npassword = { file = '/p' }"),
        "[dedup]\nwindow = '1h 30m'\n[capture]\nring_bytes = 65536".to_owned(),
    ];
    for text in &valid {
        assert_eq!(errors(&validator, text), Vec::<String>::new(), "{text}");
    }
    for text in [
        "[nope]\n".to_owned(),
        "[dedup]\nwindou = '1h'".to_owned(),
        "[dedup]\nwindow = 3600".to_owned(),
        "[dedup]\nwindow = '1 our'".to_owned(),
        "[dedup]\nmax_keys = 0".to_owned(),
        "[log]\ntarget = 'tape'".to_owned(),
        "[agent]\nstate_dir = 'here'".to_owned(),
        "[capture]\ndisable = ['nope']".to_owned(),
        "[capture]\nring_bytes = '8MB'".to_owned(),
        "[capture]\nlook_every = '1m'".to_owned(),
        feed("kind = 'list'"),
        feed("kind = 'tape'\nurl = 'https://h/'"),
        feed("kind = 'list'\nurl = 'https://h/'\npage_size = 5"),
        feed("kind = 'list'\nurl = 'https://h/'\nuser = 'u'"),
        feed("kind = 'list'\nurl = 'https://h/'\ntoken = 'secret'"),
        feed("kind = 'sentinel'\nworkspace = 'w'"),
        feed("kind = 'sentinel'\nurl = 'file:x'\ntenant = 't'"),
        sink("kind = 'readable'"),
        sink("kind = 'http'"),
        sink("kind = 'file'\npath = '/x'\nfile_rows = 5"),
        sink("kind = 'azure'\nendpoint = 'https://e/'\ndcr = 'd'"),
        sink("kind = 'stdout'\ntakes = ['alert']"),
    ] {
        assert_ne!(errors(&validator, &text), Vec::<String>::new(), "{text}");
    }
}
