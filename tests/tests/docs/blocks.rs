//! Blocks: every configuration is given to `check-config`, every command that is marked is run.

use std::path::Path;
use std::process::Command;

use sensor_tests::{agent_binary, agent_command};
use tempfile::TempDir;

use super::markdown::{Block, documents};
use super::repository;

#[test]
fn every_configuration_is_good() {
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
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}\n{text}", block.place);
    }
}

/// The text with the files of `allow.files`, which `check-config` reads, below `folder`.
fn with_lists(text: &str, folder: &Path) -> String {
    let table: toml::Table = text.parse().unwrap_or_default();
    let files = table.get("allow").and_then(|allow| allow.get("files"));
    let files = files.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let mut text = text.to_owned();
    for file in files.iter().filter_map(toml::Value::as_str) {
        let there = folder.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        if there.extension().is_some() {
            std::fs::write(&there, "192.0.2.1\n").unwrap();
        } else {
            std::fs::create_dir_all(there.join("list")).unwrap();
            let list = r#"{"name":"n","type":"cidr","version":1,"list":["192.0.2.0/24"]}"#;
            std::fs::write(there.join("list/list.json"), list).unwrap();
        }
        text = text.replace(&format!("\"{file}\""), &format!("\"{}\"", there.display()));
    }
    text
}

#[test]
fn commands_answer_as_it_is_written() {
    let blocks = documents().into_iter().flat_map(|document| document.blocks());
    let blocks: Vec<Block> = blocks.filter(|block| block.comment == "run").collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = workplace();
        let mut commands = Vec::<(&str, Vec<&str>)>::new();
        for line in block.text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, Vec::new())),
                (None, Some((_, wanted))) => wanted.push(line),
                (None, None) => panic!("{}: begins with no command", block.place),
            }
        }
        for (line, wanted) in commands {
            let answer = typed_in(folder.path(), line);
            let lines: Vec<&str> = answer.lines().collect();
            assert!(is_like(&wanted, &lines), "{}: $ {line}\n{answer}", block.place);
        }
    }
}

/// A folder with the examples, as the root of the repository has them.
pub(crate) fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::os::unix::fs::symlink(repository().join("examples"), path.join("examples")).unwrap();
    std::fs::create_dir(path.join("bin")).unwrap();
    std::os::unix::fs::symlink(agent_binary(), path.join("bin/netsensor")).unwrap();
    folder
}

/// A shell in `folder`, which has the agent in its path and knows no configuration.
pub(crate) fn typed(folder: &Path, typed: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", typed]).current_dir(folder).env_clear();
    shell.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    shell.env("HOME", folder).env("XDG_STATE_HOME", folder);
    shell
}

/// What it prints, on both outputs.
pub(crate) fn typed_in(folder: &Path, text: &str) -> String {
    let output = typed(folder, &format!("{{ {text}\n}} 2>&1")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether `lines` are as wanted: a line `…` stands for any lines, `…` in a line for any text.
fn is_like(wanted: &[&str], lines: &[&str]) -> bool {
    match (wanted.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), None) => is_like(rest, lines),
        (Some((&"…", rest)), Some((_, others))) => {
            is_like(rest, lines) || is_like(wanted, others)
        }
        (Some((line, rest)), Some((other, others))) => {
            is_line_like(line, other) && is_like(rest, others)
        }
        _ => false,
    }
}

fn is_line_like(wanted: &str, line: &str) -> bool {
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
fn what_differs_may_be_left_out() {
    for (wanted, lines, is_so) in [
        (vec!["a", "…", "d"], vec!["a", "b", "c", "d"], true),
        (vec!["a", "…"], vec!["a"], true),
        (vec!["a"], vec!["a", "b"], false),
        (vec!["a … c"], vec!["a b c"], true),
        (vec!["a …"], vec!["a b c"], true),
        (vec!["a … d"], vec!["a b c"], false),
    ] {
        assert_eq!(is_like(&wanted, &lines), is_so, "{wanted:?} {lines:?}");
    }
}
