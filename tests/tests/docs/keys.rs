//! The configuration reference: `docs/configuration.md` describes each key; the accepted values and
//! the need for a restart are generated from the agent's own readers.
//!
//! `NETSENSOR_WRITE_DOCS=1 cargo test -p sensor-tests --test docs reference` writes it.

use std::collections::BTreeSet;

use super::probes::{Reader, readers};
use super::repository;

const PATH: &str = "docs/configuration.md";

/// The marker of a table of keys: its section and kinds (none: all kinds).
#[derive(Debug, Clone)]
struct Marker {
    section: String,
    kinds: Vec<String>,
}

impl Marker {
    /// `<!-- keys: sink http azure -->`.
    fn parse(line: &str) -> Option<Self> {
        let text = line.strip_prefix("<!-- keys: ")?.strip_suffix(" -->")?;
        let mut words = text.split(' ').map(str::to_owned);
        Some(Self { section: words.next()?, kinds: words.collect() })
    }

    fn covers(&self, reader: &Reader) -> bool {
        self.section == reader.section
            && (self.kinds.is_empty() || self.kinds.contains(&reader.kind))
    }
}

/// A line of a table: the key with its hand-written columns.
struct Row<'l> {
    key: &'l str,
    default: &'l str,
    meaning: &'l str,
}

impl<'l> Row<'l> {
    /// Columns: key, (accepts,) default, (reload,) meaning.
    fn parse(line: &'l str) -> Option<Self> {
        let cells = cells(line);
        let key = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
        let default = if cells.len() == 3 { cells.get(1)? } else { cells.get(2)? };
        Some(Self { key, default, meaning: cells.last()? })
    }

    /// The default, if it is a single value.
    fn literal(&self) -> Option<String> {
        let literal = self.default.strip_prefix('`')?.strip_suffix('`')?;
        (!literal.contains('`')).then(|| literal.replace("\\|", "|"))
    }
}

/// The cells of a line of a table; `\|` does not end a cell.
fn cells(line: &str) -> Vec<&str> {
    let mut cells = Vec::new();
    let (mut from, mut before) = (0, ' ');
    for (index, character) in line.char_indices() {
        if character == '|' && before != '\\' {
            cells.push(line[from..index].trim());
            from = index + 1;
        }
        before = character;
    }
    cells.into_iter().skip(1).collect()
}

/// The generated reference, and the errors that only an author can fix.
fn reference(text: &str, readers: &[Reader]) -> (String, Vec<String>) {
    let (mut out, mut wrong) = (Vec::new(), Vec::new());
    let mut described = BTreeSet::new();
    let mut marker: Option<Marker> = None;
    let mut is_in_table = false;
    for line in text.lines() {
        let Some(table) = &marker else {
            marker = Marker::parse(line);
            out.push(line.to_owned());
            continue;
        };
        let has_reload = !["feed", "sink"].contains(&table.section.as_str());
        if !line.starts_with('|') {
            out.push(line.to_owned());
            marker = if is_in_table { Marker::parse(line) } else { marker };
            is_in_table = false;
        } else if line.starts_with("| key ") {
            let reload = if has_reload { "reload | " } else { "" };
            out.push(format!("| key | accepts | default | {reload}meaning |"));
            is_in_table = true;
        } else if line.starts_with("| ---") {
            out.push(format!("|{}", " --- |".repeat(if has_reload { 5 } else { 4 })));
        } else if let Some(row) = Row::parse(line) {
            let covered: Vec<&Reader> = readers.iter().filter(|it| table.covers(it)).collect();
            let key = row.key.strip_prefix(&format!("{}.", table.section)).unwrap_or_default();
            let owners: Vec<&Reader> =
                covered.iter().copied().filter(|it| it.form(key).is_some()).collect();
            if owners.is_empty() {
                wrong.push(format!("{}: there is no such key", row.key));
                continue;
            }
            if row.meaning.is_empty() {
                wrong.push(format!("{}: has no meaning", row.key));
            }
            wrong.extend(wrong_default(&row, key, &owners));
            described.extend(owners.iter().map(|it| (it.section.clone(), it.kind.clone(), key)));
            let reload = if has_reload { reload(&owners, key, &mut wrong) } else { String::new() };
            let accepts = accepts(&covered, key).replace('|', "\\|");
            let Row { key, default, meaning } = row;
            out.push(format!("| `{key}` | {accepts} | {default} | {reload}{meaning} |"));
        } else {
            wrong.push(format!("{line}: is not a row of a table of keys"));
        }
    }
    for reader in readers {
        for key in reader.keys() {
            let it = (reader.section.clone(), reader.kind.clone(), key.as_str());
            if !described.contains(&it) {
                wrong.push(format!("{}.{key}: is not described for kind {:?}", it.0, it.1));
            }
        }
    }
    out.push(String::new());
    (out.join("\n"), wrong)
}

/// The accepted forms of `key`, with the kinds if they differ, or if some kinds lack the key.
fn accepts(covered: &[&Reader], key: &str) -> String {
    let mut forms = Vec::<(String, Vec<String>)>::new();
    for (form, kind) in covered.iter().filter_map(|it| Some((it.form(key)?, &it.kind))) {
        match forms.iter_mut().find(|(known, _)| *known == form) {
            Some((_, kinds)) => kinds.push(kind.clone()),
            None => forms.push((form, vec![kind.clone()])),
        }
    }
    match forms.as_slice() {
        [(form, kinds)] if kinds.len() == covered.len() => form.clone(),
        _ => {
            let group = |(form, kinds): &(String, Vec<String>)| {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                format!("{}: {form}", kinds.join(", "))
            };
            forms.iter().map(group).collect::<Vec<_>>().join("; ")
        }
    }
}

/// The errors in the default of a row.
fn wrong_default(row: &Row<'_>, key: &str, owners: &[&Reader]) -> Vec<String> {
    let mut wrong = Vec::new();
    for owner in owners {
        let of = if owner.kind.is_empty() { String::new() } else { format!(" of {}", owner.kind) };
        let is_required = row.default.starts_with("*required*");
        if row.default == "*required*" && !owner.requires(key) {
            wrong.push(format!("{}{of}: is not required", row.key));
        } else if !is_required && owner.requires(key) {
            wrong.push(format!("{}{of}: is required", row.key));
        }
        if let Some(literal) = row.literal()
            && owner.is_default(key, &literal) == Some(false)
        {
            wrong.push(format!("{}{of}: {literal} is not its default", row.key));
        }
    }
    wrong
}

/// The cell `at once | ` or `restart | `.
fn reload(owners: &[&Reader], key: &str, wrong: &mut Vec<String>) -> String {
    match owners.iter().find_map(|owner| owner.needs_restart(key)) {
        Some(true) => "restart | ".to_owned(),
        Some(false) => "at once | ".to_owned(),
        None => {
            wrong.push(format!("{key}: no other value is known; add one to OTHERS"));
            String::new()
        }
    }
}

#[test]
fn reference_has_every_key_of_the_agent() {
    let path = repository().join(PATH);
    let text = std::fs::read_to_string(&path).unwrap();
    let (generated, wrong) = reference(&text, &readers());
    assert!(wrong.is_empty(), "{PATH}:\n{}", wrong.join("\n"));
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
    for reader in readers().iter().filter(|it| ["feed", "sink"].contains(&it.section.as_str())) {
        for key in reader.keys() {
            let (section, kind) = (&reader.section, &reader.kind);
            assert_ne!(reader.needs_restart(&key), Some(true), "{section}.{key} of {kind}");
        }
    }
}

#[test]
fn missing_wrong_and_undescribed_keys_are_reported() {
    let readers = readers();
    let dedup: Vec<Reader> = readers.into_iter().filter(|it| it.section == "dedup").collect();
    let table = "<!-- keys: dedup -->\n| key | default | meaning |\n| --- | --- | --- |\n";
    let (text, wrong) = reference(
        &format!("{table}| `dedup.window` | `\"2h\"` | |\n| `dedup.size` | none | x |\n"),
        &dedup,
    );
    assert!(
        text.contains("| `dedup.window` | a duration, 1s to 7d | `\"2h\"` | at once |  |"),
        "{text}"
    );
    assert_eq!(
        wrong,
        [
            "dedup.window: has no meaning",
            "dedup.window: \"2h\" is not its default",
            "dedup.size: there is no such key",
            "dedup.max_keys: is not described for kind \"\"",
        ]
    );
}
