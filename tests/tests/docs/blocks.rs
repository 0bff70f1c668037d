//! Code blocks: `check-config` reads every configuration, and every marked command is run.

use std::path::Path;
use std::process::Command;

use sensor_tests::{agent_binary, agent_command};
use tempfile::TempDir;

use super::markdown::{Block, documents};
use super::repository;

#[test]
fn every_configuration_is_valid() {
    let blocks = documents().into_iter().flat_map(|document| document.blocks());
    let blocks: Vec<Block> = blocks.filter(|block| block.language == "toml").collect();
    assert!(blocks.len() >= 10, "{blocks:?}");
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        let before = block.comment.strip_prefix("before:").unwrap_or_default();
        let text = with_lists(&format!("{before}\n{}", block.text), folder.path());
        let path = folder.path().join("netsensor.toml");
        std::fs::write(&path, &text).unwrap();
        let path = path.to_str().unwrap();
        let output = agent_command(folder.path(), &["check-config", path]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}\n{text}", block.location);
    }
}

/// Replaces the files of `allow.files`, which `check-config` reads, by files in `folder`.
fn with_lists(text: &str, folder: &Path) -> String {
    let table: toml::Table = text.parse().unwrap_or_default();
    let files = table.get("allow").and_then(|allow| allow.get("files"));
    let files = files.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let mut text = text.to_owned();
    for file in files.iter().filter_map(toml::Value::as_str) {
        let path = folder.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.extension().is_some() {
            std::fs::write(&path, "192.0.2.1\n").unwrap();
        } else {
            std::fs::create_dir_all(path.join("list")).unwrap();
            let list = r#"{"name":"n","type":"cidr","version":1,"list":["192.0.2.0/24"]}"#;
            std::fs::write(path.join("list/list.json"), list).unwrap();
        }
        text = text.replace(&format!("\"{file}\""), &format!("\"{}\"", path.display()));
    }
    text
}

#[test]
fn commands_print_the_documented_output() {
    let blocks = documents().into_iter().flat_map(|document| document.blocks());
    let blocks: Vec<Block> = blocks.filter(|block| block.comment == "run").collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = example_directory();
        let mut commands = Vec::<(&str, Vec<&str>)>::new();
        for line in block.text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, Vec::new())),
                (None, Some((_, wanted))) => wanted.push(line),
                (None, None) => panic!("{}: does not begin with a command", block.location),
            }
        }
        for (line, wanted) in commands {
            let output = shell_output(folder.path(), line);
            let lines: Vec<&str> = output.lines().collect();
            assert!(lines_match(&wanted, &lines), "{}: $ {line}\n{output}", block.location);
        }
    }
}

/// A directory with the examples, laid out like the root of the repository.
pub(crate) fn example_directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::os::unix::fs::symlink(repository().join("examples"), path.join("examples")).unwrap();
    std::fs::create_dir(path.join("bin")).unwrap();
    std::os::unix::fs::symlink(agent_binary(), path.join("bin/netsensor")).unwrap();
    folder
}

/// A shell in `folder`, with the agent in its path and without a configuration.
pub(crate) fn shell(folder: &Path, script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(folder).env_clear();
    shell.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    shell.env("HOME", folder).env("XDG_STATE_HOME", folder);
    shell
}

/// Runs commands in a shell; returns both outputs.
pub(crate) fn shell_output(folder: &Path, text: &str) -> String {
    let output = shell(folder, &format!("{{ {text}\n}} 2>&1")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// True if `lines` match: a line `…` matches any lines, `…` within a line any text.
fn lines_match(wanted: &[&str], lines: &[&str]) -> bool {
    match (wanted.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), None) => lines_match(rest, lines),
        (Some((&"…", rest)), Some((_, others))) => {
            lines_match(rest, lines) || lines_match(wanted, others)
        }
        (Some((line, rest)), Some((other, others))) => {
            line_matches(line, other) && lines_match(rest, others)
        }
        _ => false,
    }
}

fn line_matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || (is_open && wanted.ends_with('…'))
}

#[test]
fn an_ellipsis_matches_any_text() {
    for (wanted, lines, expected) in [
        (vec!["a", "…", "d"], vec!["a", "b", "c", "d"], true),
        (vec!["a", "…"], vec!["a"], true),
        (vec!["a"], vec!["a", "b"], false),
        (vec!["a … c"], vec!["a b c"], true),
        (vec!["a …"], vec!["a b c"], true),
        (vec!["a … d"], vec!["a b c"], false),
    ] {
        assert_eq!(lines_match(&wanted, &lines), expected, "{wanted:?} {lines:?}");
    }
}
