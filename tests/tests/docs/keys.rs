//! The configuration reference: the tables of keys in `docs/configuration.md` are generated from the
//! agent's declarations of its keys.
//!
//! `NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-tests --test docs reference` writes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sensor_user::config::{Key, KeyDefault, SectionKeys, declarations};

use super::repository;

const PATH: &str = "docs/configuration.md";

/// The text with each table of keys replaced by a generated one. `groups` collects the names of the
/// tables.
fn reference<'t>(
    text: &'t str,
    sections: &[SectionKeys],
    groups: &mut BTreeSet<&'t str>,
) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let marker = line.strip_prefix("<!-- keys: ").and_then(|it| it.strip_suffix(" -->"));
        if let Some(group) = marker {
            groups.insert(group);
            while lines.next_if(|line| line.starts_with('|')).is_some() {}
            out.push_str(&table(group, sections));
        }
    }
    out
}

/// The table of the keys of one group, over all kinds that have it.
fn table(group: &str, sections: &[SectionKeys]) -> String {
    let in_group = |section: &&SectionKeys| section.keys.iter().any(|key| key.group == group);
    let sections: Vec<&SectionKeys> = sections.iter().filter(in_group).collect();
    let has_reload = sections.iter().all(|section| !section.is_list);
    let mut names = Vec::new();
    for key in sections.iter().flat_map(|section| &section.keys) {
        if key.group == group && !names.contains(&key.name) {
            names.push(key.name);
        }
    }
    let reload = if has_reload { "reload | " } else { "" };
    let columns = if has_reload { 5 } else { 4 };
    let mut out = format!("| key | accepts | default | {reload}meaning |\n");
    let _infallible = writeln!(out, "|{}", " --- |".repeat(columns));
    for name in names {
        let keys: Vec<(&SectionKeys, &Key)> = sections
            .iter()
            .filter_map(|section| Some((*section, section.get(name)?)))
            .filter(|(_, key)| key.group == group)
            .collect();
        let (section, key) = keys[0];
        let all = keys.len() == sections.len();
        let accepts = by_kind(&keys, all, |key| key.accepts.clone());
        let default = by_kind(&keys, true, |key| default(&key.default));
        let meaning = by_kind(&keys, true, |key| key.meaning.clone());
        let reload = match (has_reload, key.reloads) {
            (false, _) => "",
            (true, true) => "at once | ",
            (true, false) => "restart | ",
        };
        let cells = [accepts, default, meaning].map(|cell| cell.replace('|', "\\|"));
        let [accepts, default, meaning] = cells;
        let section = section.section;
        let row = format!("`{section}.{name}` | {accepts} | {default} | {reload}{meaning}");
        let _infallible = writeln!(out, "| {row} |");
    }
    out
}

/// The text of a cell, with the kinds where they differ, or where `is_for_all` is false. The text of
/// most kinds comes first, without them.
fn by_kind(
    keys: &[(&SectionKeys, &Key)],
    is_for_all: bool,
    text: impl Fn(&Key) -> String,
) -> String {
    let mut texts = Vec::<(String, Vec<&str>)>::new();
    for (section, key) in keys {
        let (text, kind) = (text(key), section.kind.unwrap_or_default());
        match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, kinds)) => kinds.push(kind),
            None => texts.push((text, vec![kind])),
        }
    }
    texts.sort_by_key(|(_, kinds)| std::cmp::Reverse(kinds.len()));
    let is_first_usual = match texts.as_slice() {
        [(_, first), (_, second), ..] => first.len() > second.len(),
        _ => true,
    };
    let cell = |(index, (text, kinds)): (usize, &(String, Vec<&str>))| {
        if index == 0 && is_for_all && is_first_usual {
            return text.clone();
        }
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        format!("{}: {text}", kinds.join(", "))
    };
    texts.iter().enumerate().map(cell).collect::<Vec<_>>().join("; ")
}

fn default(default: &KeyDefault) -> String {
    match default {
        KeyDefault::Required => "*required*".to_owned(),
        KeyDefault::RequiredWith { with } => format!("*required* with `{with}`"),
        KeyDefault::RequiredWithout { without } => format!("*required* without `{without}`"),
        KeyDefault::Value(value) => format!("`{}`", toml::Value::try_from(value).unwrap()),
        KeyDefault::Text(text) => text.clone(),
    }
}

#[test]
fn reference_has_every_key_of_the_agent() {
    let path = repository().join(PATH);
    let text = std::fs::read_to_string(&path).unwrap();
    let (sections, mut groups) = (declarations(), BTreeSet::new());
    let generated = reference(&text, &sections, &mut groups);
    let declared: BTreeSet<&str> =
        sections.iter().flat_map(|section| &section.keys).map(|key| key.group).collect();
    assert_eq!(groups, declared, "{PATH} has a marker for each table");
    if std::env::var_os("NETSENSOR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
        return;
    }
    let stale =
        generated.lines().zip(text.lines()).find(|(generated, current)| generated != current);
    let remedy = "NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-tests --test docs reference";
    assert!(
        stale.is_none() && generated.len() == text.len(),
        "{PATH} is stale: {stale:?}; {remedy}"
    );
}

#[test]
fn feeds_and_sinks_need_no_restart() {
    for section in declarations().iter().filter(|section| section.is_list) {
        for key in &section.keys {
            assert!(key.reloads, "{}.{} of {:?}", section.section, key.name, section.kind);
        }
    }
}

#[test]
fn tables_are_replaced_and_show_the_differences_of_kinds() {
    let sections = declarations();
    let text =
        "<!-- keys: dedup -->\n| key | meaning |\n| --- | --- |\n| `dedup.x` | wrong |\n\nend\n";
    let generated = reference(text, &sections, &mut BTreeSet::new());
    let row = "| `dedup.window` | a duration, 1s to 7d | `\"1h\"` | at once | After an alert";
    assert!(generated.contains(row) && generated.ends_with("|\n\nend\n"), "{generated}");
    assert!(!generated.contains("wrong"), "{generated}");
    let sink = table("sink server", &sections);
    for cell in [
        "| `sink.compress` | true or false | `true`; `http`: `false` |",
        "| `sink.body` | `http`: \"array\" or \"lines\" | `\"array\"` |",
    ] {
        assert!(sink.contains(cell), "{sink}");
    }
}
