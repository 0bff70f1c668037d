//! Checks, builds and tests everything, stage by stage, and counts.
//!
//! A stage that fails does not stop the later ones, so that one run tells all; the last line is
//! `N passed, N failed, N skipped`. A stage that runs no tests of its own counts as one.

mod servers;
mod tally;
mod tools;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::host::{self, Workspace};
use crate::object::{self, Comparison};
use crate::package;
use crate::tidy;
use crate::vm;
use tally::{Skips, Tally, failed_test};

/// The sink that only some builds have is tested too.
const KAFKA: &str = "sensor-tests/kafka";
const KERNEL_SUITE: &str = "kernel";
/// It loads the programs too, a test at a time.
const CONFINEMENT_SUITE: &str = "confinement";
/// The suite that boots a machine with the package in it.
const SYSTEMD_SUITE: &str = "systemd";
/// Where the package of that suite is made: of the agent that the other suites use.
const TESTED_PACKAGES: &str = "target/packages/tested";
/// Suites add a line `SKIPPED <test>: <why>` for each test that could not run here.
const SKIP_LOG: &str = "target/skipped.txt";

/// What a stage came to.
enum Outcome {
    /// A check, or a suite: what it counted.
    Done(Tally),
    Failed(String),
    Skipped(String),
}

/// The run so far.
struct Run<'w> {
    workspace: &'w Workspace,
    fast: bool,
    skip_log: PathBuf,
    /// The object built from source, once it is.
    object: Option<PathBuf>,
    tally: Tally,
    /// Names of what failed.
    failed: Vec<String>,
    skipped: Skips,
}

/// Runs every stage; fails when one did.
pub(crate) fn test(workspace: &Workspace, fast: bool) -> anyhow::Result<ExitCode> {
    let skip_log = workspace.path(SKIP_LOG);
    std::fs::create_dir_all(workspace.path("target")).context("create target")?;
    std::fs::write(&skip_log, "").with_context(|| format!("write {SKIP_LOG}"))?;
    let mut run = Run {
        workspace,
        fast,
        skip_log,
        object: None,
        tally: Tally::default(),
        failed: Vec::new(),
        skipped: Skips::default(),
    };
    let began = now();
    run.stage("tools", |run| tools::ensure(run.workspace));
    // They wait for the network while the compiler works. Nothing else installs meanwhile.
    let of_servers = workspace.clone();
    let servers = std::thread::spawn(move || servers::ensure(&of_servers));
    run.stage("format", |run| run.cargo(&["fmt", "--all", "--check"]));
    run.stage("tidy", |run| run.tidy());
    run.stage("clippy", |run| {
        run.cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            KAFKA,
            "--locked",
            "--",
            "-D",
            "warnings",
        ])
    });
    run.stage("documentation", Run::documentation);
    run.stage("servers", |_run| {
        servers.join().map_err(|_panic| anyhow::anyhow!("their thread panicked"))
    });
    run.stage("object", Run::object);
    run.stage("agent", |run| run.cargo(&host::BUILD_AGENT));
    run.stage("tests", Run::tests);
    run.stage("packages", Run::packages);
    run.stage("kernel", Run::kernel);
    run.stage("vm", Run::vm);
    Ok(run.finish(now().duration_since(began)))
}

impl Run<'_> {
    fn stage(&mut self, name: &str, perform: impl FnOnce(&mut Self) -> anyhow::Result<Outcome>) {
        println!("\n== {name}");
        let began = now();
        let outcome = perform(self).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = now().duration_since(began).as_secs_f32();
        let verdict = match outcome {
            Outcome::Done(tally) => {
                self.tally.add(tally);
                if tally.failed > 0 {
                    self.failed.push(format!("{name}: {} failed", tally.failed));
                }
                if tally.failed > 0 { "failed" } else { "passed" }
            }
            Outcome::Failed(why) => {
                println!("{why}");
                self.tally.failed += 1;
                self.failed.push(format!("{name}: {}", why.lines().next().unwrap_or_default()));
                "failed"
            }
            Outcome::Skipped(why) => {
                println!("SKIPPED {name}: {why}");
                self.skipped.push(name, &why);
                "skipped"
            }
        };
        println!("== {name}: {verdict} in {seconds:.1} s");
    }

    /// A cargo command that passes or fails as a whole.
    fn cargo(&self, args: &[&str]) -> anyhow::Result<Outcome> {
        host::run(self.workspace.cargo().args(args))?;
        Ok(Outcome::Done(Tally::PASSED))
    }

    fn tidy(&self) -> anyhow::Result<Outcome> {
        let found = tidy::findings(self.workspace)?;
        for finding in &found {
            println!("{finding}");
        }
        Ok(match found.len() {
            0 => Outcome::Done(Tally::PASSED),
            count => Outcome::Failed(format!("{count} findings")),
        })
    }

    fn documentation(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        host::run(
            self.workspace
                .cargo()
                .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )?;
        Ok(Outcome::Done(Tally::PASSED))
    }

    /// Builds the object from source, for the kernel suite, and compares it with the committed.
    fn object(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if let Err(why) = crate::toolchain::Toolchain::find_or_install() {
            return Ok(Outcome::Skipped(format!("{why:#}")));
        }
        let (path, comparison) = object::build_and_compare(self.workspace)?;
        self.object = Some(path);
        Ok(match comparison {
            Comparison::Same => Outcome::Done(Tally::PASSED),
            Comparison::Different => Outcome::Failed(format!(
                "{} is not what the sources give; run cargo xtask build-ebpf",
                crate::object_lock::OBJECT
            )),
            Comparison::OtherTools(theirs, ours) => {
                println!("not compared with the committed object: built by {theirs}, here {ours}");
                Outcome::Done(Tally::PASSED)
            }
        })
    }

    /// Every test but those of the suites that load the programs, and the examples in the documentation.
    fn tests(&mut self) -> anyhow::Result<Outcome> {
        let mut args: Vec<OsString> = [
            "test",
            "--workspace",
            "--locked",
            "--features",
            KAFKA,
            "--no-fail-fast",
            "--lib",
            "--bins",
        ]
        .map(OsString::from)
        .into();
        for suite in suites(self.workspace)? {
            if ![KERNEL_SUITE, CONFINEMENT_SUITE, SYSTEMD_SUITE].contains(&suite.as_str()) {
                args.extend(["--test".into(), suite.into()]);
            }
        }
        let mut cargo = self.workspace.cargo();
        let mut tally = self.counted(cargo.args(&args))?;
        let mut doc = self.workspace.cargo();
        tally.add(self.counted(doc.args(["test", "--workspace", "--locked", "--doc"]))?);
        Ok(Outcome::Done(tally))
    }

    /// The suites that load the programs; they are root's.
    fn kernel(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if !suites(self.workspace)?.iter().any(|suite| suite == KERNEL_SUITE) {
            return Ok(Outcome::Skipped("there is no kernel suite in tests/tests".to_owned()));
        }
        if !host::is_root() {
            return Ok(Outcome::Skipped("loading BPF programs needs root".to_owned()));
        }
        let mut cargo = self.workspace.cargo();
        cargo
            .args(["test", "--locked", "--package", "sensor-tests", "--test", KERNEL_SUITE])
            .args(["--test", CONFINEMENT_SUITE, "--no-fail-fast", "--", "--test-threads=1"])
            .env("NETSENSOR_BIN", self.workspace.path("target/release/netsensor"));
        if let Some(object) = &self.object {
            cargo.env("NETSENSOR_TEST_OBJECT", object);
        } else {
            println!("with the committed object: none was built from source");
        }
        Ok(Outcome::Done(self.counted(&mut cargo)?))
    }

    /// Packs the agent, and runs the suite that installs the packages. Without the kafka sink, which
    /// takes minutes to build: `cargo xtask package` has it, and the suite's own agent.
    fn packages(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if !host::can_install() {
            let why = "packing the agent and booting a machine with it take root and apt-get";
            return Ok(Outcome::Skipped(why.to_owned()));
        }
        let binary = self.workspace.path("target/release/netsensor");
        let out = self.workspace.path(TESTED_PACKAGES);
        let made = package::make(self.workspace, &binary, &out)?;
        let mut cargo = self.workspace.cargo();
        cargo
            .args(["test", "--workspace", "--locked", "--features", KAFKA])
            .args(["--test", SYSTEMD_SUITE, "--", "--test-threads=1", "--show-output"])
            .env("NETSENSOR_BIN", &binary)
            .env("NETSENSOR_DEB", &made.deb)
            .env("NETSENSOR_RPM", &made.rpm);
        Ok(Outcome::Done(self.counted(&mut cargo)?))
    }

    /// The agent on other kernels.
    fn vm(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if let Some(why) = vm::hindrance() {
            return Ok(Outcome::Skipped(why));
        }
        let checks = vm::run(self.workspace, vm::Kind::X86_64)?;
        Ok(Outcome::Done(Tally { passed: checks.passed, failed: checks.failed }))
    }

    /// Runs a test command, passes its output on and counts its results.
    fn counted(&mut self, command: &mut Command) -> anyhow::Result<Tally> {
        command.env("NETSENSOR_SKIP_LOG", &self.skip_log).stdout(Stdio::piped());
        let mut child = command.spawn().context("run cargo test")?;
        let stdout = child.stdout.take().context("output of cargo test")?;
        let mut tally = Tally::default();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("read the output of cargo test")?;
            let line = String::from_utf8_lossy(&line);
            std::io::stdout().write_all(format!("{line}\n").as_bytes())?;
            tally.add(Tally::of_line(&line));
            self.failed.extend(failed_test(&line).map(|test| format!("test {test}")));
        }
        let status = child.wait().context("wait for cargo test")?;
        // A suite that did not build, or died, has no line for its failure.
        if !status.success() && tally.failed == 0 {
            tally.failed = 1;
        }
        Ok(tally)
    }

    /// Prints what failed and what was skipped, then the one line.
    fn finish(mut self, took: Duration) -> ExitCode {
        let log = std::fs::read_to_string(&self.skip_log).unwrap_or_default();
        self.tally.passed = self.tally.passed.saturating_sub(self.skipped.extend_from_log(&log));
        println!("\n== all: {} s", took.as_secs());
        for (name, why) in self.skipped.iter() {
            println!("SKIPPED {name}: {}", why.lines().next().unwrap_or_default());
        }
        // A continuous build that leaves a whole suite out must not look like one that ran it.
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            for name in self.skipped.suites() {
                self.tally.failed += 1;
                self.failed.push(format!("{name}: skipped, which CI does not allow"));
            }
        }
        for name in &self.failed {
            println!("FAILED {name}");
        }
        let Tally { passed, failed } = self.tally;
        println!("{passed} passed, {failed} failed, {} skipped", self.skipped.count());
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Names of the suites.
fn suites(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let files = workspace.files()?;
    Ok(files.iter().filter_map(|path| suite(path)).collect())
}

/// `tests/tests/<name>.rs` or `tests/tests/<name>/main.rs`, as cargo finds them.
fn suite(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(OsStr::to_str).collect();
    match parts.as_slice() {
        ["tests", "tests", file] => file.strip_suffix(".rs").map(str::to_owned),
        ["tests", "tests", folder, "main.rs"] => Some((*folder).to_owned()),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a stage took is for people, not logic")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_the_files_of_the_tests_directory() {
        for (path, want) in [
            ("tests/tests/rule.rs", Some("rule")),
            ("tests/tests/kernel/main.rs", Some("kernel")),
            ("tests/tests/kernel/accept.rs", None),
            ("tests/tests/notes.md", None),
            ("tests/src/lib.rs", None),
        ] {
            assert_eq!(suite(Path::new(path)).as_deref(), want, "{path}");
        }
    }
}
