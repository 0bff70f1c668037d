//! Logs: the message of a line is a constant, and what differs is in its fields.

use super::{Finding, Source};

const AGENT: &str = "sensor-user/src/";
/// Macros that write a line.
const MACROS: [&str; 6] = ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "event!("];

/// Lines whose message has a value in its text.
pub(super) fn findings(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with(AGENT) {
        return Vec::new();
    }
    // By characters: what is blanked is as many characters, not as many bytes.
    let raw: Vec<char> = source.lines.join("\n").chars().collect();
    let code: Vec<char> = source.code.join("\n").chars().collect();
    let starts = (0..code.len()).filter_map(|at| call(&code, at));
    let breaches = starts.filter(|start| {
        arguments(&code, *start).iter().any(|(from, to)| {
            let is_literal = code.get(*from..*to).is_some_and(is_blank);
            is_literal && raw.get(*from..*to).is_some_and(has_value)
        })
    });
    let finding = |start| {
        let before = raw.iter().take(start).filter(|it| **it == '\n').count();
        let what = "a value in the text of a log line; write a constant message and a field";
        Finding::new(&source.path, before + 1, what)
    };
    breaches.map(finding).collect()
}

/// Where the arguments begin of a call of one of [`MACROS`] whose name begins at `at`.
fn call(code: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).and_then(|at| code.get(at));
    if before.is_some_and(|it| it.is_alphanumeric() || *it == '_') {
        return None;
    }
    let rest = code.get(at..)?;
    let name = MACROS.iter().find(|name| {
        rest.len() > name.len() && name.chars().zip(rest).all(|(want, is)| want == *is)
    })?;
    Some(at + name.len())
}

/// From where to where each argument goes, of those that begin at `start`.
fn arguments(code: &[char], start: usize) -> Vec<(usize, usize)> {
    let mut depth = 0_u32;
    let mut from = start;
    let mut found = Vec::new();
    for (at, character) in (start..).zip(code.get(start..).unwrap_or(&[])) {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push((from, at));
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push((from, at));
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// All of a literal is blanked, and a comment is too.
fn is_blank(code: &[char]) -> bool {
    code.iter().all(|it| it.is_whitespace())
}

/// Whether a literal, with comments around it, has a `{` that is not doubled.
fn has_value(argument: &[char]) -> bool {
    let text: String = argument.iter().collect();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text: Vec<&str> = text.lines().filter(is_code).collect();
    let text = text.join("\n");
    let literal = text.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    literal.is_some_and(|(literal, _)| literal.replace("{{", "").contains('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        findings(&Source::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_in_the_text_of_a_message_is_found() {
        for call in [
            "tracing::warn!(\"spool: {error}\");",
            "warn!(count, \"sink {}: gone\", self.name);",
            "tracing::event!(Level::WARN, %error, \"{{{error}\");",
            "tracing::error!(\n    path = %path.display(),\n    // A reason.\n    \"größer \\\n     als {most}\"\n);",
            "tracing::info!(r#\"\"{name}\"\"#);",
        ] {
            let text = format!("// größer\nfn f() {{\n    {call}\n}}\n");
            let location = "sensor-user/src/a.rs:3: a value in the text of a log line; ";
            let found = found("sensor-user/src/a.rs", &text);
            assert!(found.len() == 1 && found[0].starts_with(location), "{call}: {found:?}");
        }
    }

    #[test]
    fn a_constant_message_is_not_nor_a_value_in_a_field() {
        for call in [
            "tracing::warn!(%error, \"spool cannot be written\");",
            "tracing::warn!(path = %format!(\"{x}\"), \"a {{b}}\");",
            "tracing::warn!(\"a\" /* {b} */);\n\"{x}\"",
            "tracing::warn!(\n    // No \"{b}\".\n    \"a\", // {c}\n);",
            "tracing::info!(sizes = ?f(\"{x}\", \"{y}\"), // {z}\n\"literal {{\");",
            "compile_error!(\"{x}\"); anyhow::anyhow!(\"{x}\"); my_error!(\"{x}\");",
            "// tracing::warn!(\"{x}\")",
            "let text = \"warn!({x})\"; f(\"{x}\");",
        ] {
            assert_eq!(found("sensor-user/src/a.rs", call), [""; 0], "{call}");
        }
        assert_eq!(found("xtask/src/a.rs", "error!(\"{x}\")"), [""; 0]);
    }
}
