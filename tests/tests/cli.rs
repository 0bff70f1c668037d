//! The command line: flags, messages and exit statuses of the built agent.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use sensor_tests::{agent_command, skip_unless};

const COMMANDS: [&str; 6] = ["run", "replay", "record", "self-test", "check-config", "completions"];

/// Runs the agent with `arguments`, in an empty home.
fn netsensor(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    agent_command(home.path(), arguments).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = netsensor(&["--help"]);
    assert_eq!(status(&help), 0);
    for command in COMMANDS {
        assert!(stdout(&help).contains(command), "{command}");
        assert_eq!(status(&netsensor(&[command, "--help"])), 0, "{command}");
    }
    assert!(stdout(&help).contains("Exit status: 0 done, 1 failure at run time, 2 bad flags"));
    let version = netsensor(&["--version"]);
    assert_eq!(stdout(&version), format!("netsensor {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn invalid_flags_exit_with_2_and_a_remedy() {
    let replay = ["replay", "--connections", "c", "--indicators", "i"];
    let with = |more: &[&'static str]| [&replay[..], more].concat();
    let cases = [
        (vec![], "Usage: netsensor"),
        (vec!["rum"], "a similar subcommand exists: 'run'"),
        (vec!["run", "--confg", "x"], "a similar argument exists: '--config'"),
        (vec!["record"], "--out <FILE>"),
        (vec!["record", "--out", "x", "--duration", "5 parsecs"], "use one such as 30s, 1h or 14d"),
        (vec!["replay", "--indicators", "i", "--live"], "--connections <PATH>"),
        (vec!["replay", "--connections", "c", "--live"], "--indicators <PATH>"),
        (with(&[]), "<--at <TIME>|--live>"),
        (with(&["--live", "--at", "2026-11-24T10:00:00Z"]), "cannot be used with"),
        (with(&["--at", "yesterday"]), "use one such as 2026-11-24T10:00:00Z"),
        (with(&["--live", "--lookback", "1 hours!"]), "use one such as 30s, 1h or 14d"),
        (vec!["--log", "a=b=c", "self-test"], "use one such as \"info\""),
        (vec!["completions", "tcsh"], "[possible values: bash, zsh, fish]"),
        (vec!["check-config", "x", "--config", "y"], "cannot be used with"),
    ];
    for (arguments, part) in cases {
        let output = netsensor(&arguments);
        assert_eq!(status(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_configuration_error_is_named_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.toml");
    let location = path.display();
    let mistakes = [
        (
            "[agent]\nlog = 'info'\n\n[[feed]]\nname = 'a'\nkind = 'list'\nurl = 'file:x'\nintervall = '1h'\n",
            format!(
                "netsensor: {location}:8: feed: unknown key \"intervall\"; did you mean \"interval\"?\n"
            ),
        ),
        (
            "[allow]\nnetworks = [\"10.0.0.0/33\"]\n",
            format!(
                "netsensor: {location}:2: allow.networks[0]: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8\n"
            ),
        ),
        (
            "[dedup]\nmax_keys = 'many'\n[[sink]]\nname = 's'\nkind = 'http'\n",
            format!(
                "netsensor: {location}:2: dedup.max_keys: \"many\" is text; use a whole number from 1 to 10000000\n\
                 {location}:3: sink.url: is missing; set it to an http: or https: URL\n"
            ),
        ),
        ("[agent\n", format!("netsensor: {location}:1: not TOML: unclosed table, expected `]`\n")),
    ];
    let home = folder.path().join("home");
    let config = path.to_str().unwrap();
    for (text, message) in mistakes {
        std::fs::write(&path, text).unwrap();
        for arguments in [
            vec!["check-config", config],
            vec!["check-config", "--config", config],
            vec!["run", "--config", config],
            vec!["record", "--out", "/nowhere/x", "--config", config],
        ] {
            let output = agent_command(&home, &arguments).output().unwrap();
            assert_eq!(stderr(&output), message, "{arguments:?}");
            assert_eq!((status(&output), stdout(&output).as_str()), (2, ""), "{arguments:?}");
            assert!(!home.exists(), "{arguments:?} made a state directory");
        }
    }
}

#[test]
fn an_unreadable_configuration_exits_with_2() {
    let output = netsensor(&["run", "--config", "/nowhere/n.toml"]);
    assert_eq!(status(&output), 2);
    assert_eq!(
        stderr(&output),
        "netsensor: read configuration /nowhere/n.toml: No such file or directory (os error 2)\n"
    );
    let mut without_home = agent_command(Path::new("/"), &["check-config"]);
    let output = without_home.env_remove("HOME").env_remove("XDG_STATE_HOME").output().unwrap();
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).starts_with("netsensor: agent.state_dir: not set"));
}

#[test]
fn check_config_explains_the_example() {
    let example = repository("examples/netsensor.toml");
    let output = netsensor(&["check-config", example.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!((status(&output), stderr(&output).as_str()), (0, ""), "{text}");
    assert!(text.starts_with(&format!("{}: good\n", example.display())), "{text}");
    let indicators = repository("examples/indicators.txt");
    for line in [
        "state_dir = \"/var/lib/netsensor\"".to_owned(),
        format!("url = \"file:{}\"", indicators.display()),
        "networks = [\"192.0.2.200/32\", \"2001:db8:ffff::/48\"]".to_owned(),
        "max_keys = 100000".to_owned(),
        "takes = [\"alerts\", \"rows\"]".to_owned(),
        "url = \"https://collector.example.net/netsensor\"".to_owned(),
        "#quarantine = true".to_owned(),
    ] {
        assert!(text.lines().any(|each| each == line), "{line:?} in\n{text}");
    }
    // The output is a valid configuration itself.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("netsensor.toml");
    std::fs::write(&copy, text.split_once('\n').unwrap().1).unwrap();
    assert_eq!(status(&netsensor(&["check-config", copy.to_str().unwrap()])), 0);
    let without = netsensor(&["check-config"]);
    assert_eq!(status(&without), 0);
    assert!(stdout(&without).contains("name = \"example\"\nkind = \"list\"\nurl = \"embedded\""));
}

#[test]
fn a_closed_output_pipe_is_not_a_failure() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [&["check-config"][..], &["completions", "zsh"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = agent_command(home.path(), arguments);
        let child = child.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((status(&output), stderr(&output).as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn completions_have_the_commands_in_three_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = netsensor(&["completions", shell]);
        let script = stdout(&output);
        assert_eq!(status(&output), 0, "{shell}");
        for word in COMMANDS.into_iter().chain(["fail-on-alert", "indicator-lookback", "log"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // Internal commands, which the agent starts itself.
        for word in ["canary", "parse-feed"] {
            assert!(!script.contains(word), "{shell}: {word}");
        }
    }
}

/// Completes `netsensor re<TAB>` with bash itself.
#[test]
fn bash_completes_a_command() {
    let script = stdout(&netsensor(&["completions", "bash"]));
    let program = format!(
        "{script}\nCOMP_WORDS=(netsensor re) COMP_CWORD=1\n_netsensor netsensor re netsensor\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let mut bash = std::process::Command::new("bash");
    let bash = bash.args(["--norc", "-s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    if skip_unless(bash.is_ok(), "no bash here") {
        return;
    }
    let mut bash = bash.unwrap();
    bash.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "replay\nrecord\n");
}

#[test]
fn the_reference_has_the_keys_of_the_example() {
    let example = std::fs::read_to_string(repository("examples/netsensor.toml")).unwrap();
    // The one key without a default to show.
    let example = example.replace("# object = ", "object = ");
    // And a section that only some builds have.
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first == '[' || first.is_ascii_lowercase()) => {
            key
        }
        _ => line,
    });
    let example = lines.collect::<Vec<_>>().join("\n");
    let example: toml::Table = example.parse().unwrap();
    let mut example_keys = BTreeSet::new();
    for (section, value) in &example {
        let tables: Vec<&toml::Table> = match value {
            toml::Value::Array(all) => all.iter().map(|table| table.as_table().unwrap()).collect(),
            table => vec![table.as_table().unwrap()],
        };
        let keys = tables.iter().flat_map(|table| table.keys());
        example_keys.extend(keys.map(|key| format!("{section}.{key}")));
    }
    let reference = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .filter(|it| it.contains('.'))
        .collect();
    assert_eq!(described, example_keys);
}

#[test]
fn check_config_reads_the_files_of_allowed_networks() {
    let folder = tempfile::tempdir().unwrap();
    let (config, list) = (folder.path().join("netsensor.toml"), folder.path().join("own.txt"));
    let text = format!("[allow]\nfiles = [{:?}]\n", list.to_str().unwrap());
    std::fs::write(&config, text).unwrap();
    for (content, error) in [("10.0.0.0/8\n", None), ("10.0.0/8\n", Some("line 1: \"10.0.0/8\""))] {
        std::fs::write(&list, content).unwrap();
        let output = netsensor(&["check-config", config.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), error.is_none(), "{stderr}");
        assert!(error.is_none_or(|error| stderr.contains(error)), "{stderr}");
    }
}
