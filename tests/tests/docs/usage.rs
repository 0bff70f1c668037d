//! Commands and flags in documents, compared with those of the agent.

use std::collections::BTreeMap;

use sensor_tests::agent_command;

use super::markdown::documents;

/// Cached `--help` output of each command.
#[derive(Default)]
struct Helps(BTreeMap<String, Option<String>>);

impl Helps {
    /// The help of a command; `None` if there is no such command.
    fn of(&mut self, words: &[&str]) -> Option<&String> {
        let help = self.0.entry(words.join(" ")).or_insert_with(|| {
            let home = tempfile::tempdir().unwrap();
            let arguments: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
            let output = agent_command(home.path(), &arguments).output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        });
        help.as_ref()
    }
}

/// The arguments of each call of `netsensor` in a text of commands.
fn calls(text: &str) -> Vec<Vec<&str>> {
    let mut calls = Vec::new();
    let text = text.lines().map(|line| line.split("  #").next().unwrap_or_default());
    for command in text.flat_map(|line| line.split([';', '|', '&', '(', ')', '`'])) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_agent = |word: &&str| *word == "netsensor" || word.ends_with("/netsensor");
        let Some(index) = words.iter().position(is_agent) else { continue };
        // A word before the program may be a prompt or sudo; any other word makes it an argument.
        if words[..index].iter().all(|word| ["$", "sudo"].contains(word)) {
            calls.push(words[index + 1..].to_vec());
        }
    }
    calls
}

#[test]
fn commands_and_flags_exist() {
    let mut helps = Helps::default();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents() {
        let blocks = document.blocks().into_iter();
        let blocks = blocks.filter(|it| ["", "console", "sh"].contains(&it.language.as_str()));
        let texts = blocks.map(|block| (block.location, block.text)).chain(document.spans());
        for (location, text) in texts {
            for words in calls(&text) {
                seen += 1;
                let call = words.join(" ");
                let is_word =
                    |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                let named = words.first().filter(is_word).filter(|word| !word.starts_with('-'));
                let Some(&name) = named else { continue };
                let mut path = vec![name];
                if name == "spool" {
                    path.extend(words.get(1).filter(is_word));
                }
                let Some(help) = helps.of(&path) else {
                    wrong.push(format!("{location}: netsensor {call}: no such command"));
                    continue;
                };
                let flags = words.iter().map(|word| word.trim_start_matches('['));
                for word in flags.filter(|word| word.starts_with("--") && word.len() > 2) {
                    let flag = word.trim_end_matches(']');
                    let flag = flag.split('=').next().unwrap_or_default();
                    if !help.split([' ', ',', '=', '\n']).any(|part| part == flag) {
                        wrong.push(format!("{location}: netsensor {call}: no such flag {flag}"));
                    }
                }
            }
        }
    }
    assert!(seen > 50, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
