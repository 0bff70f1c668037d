//! Runs all checks, builds and tests in stages, and counts the results.
//!
//! A failed stage does not stop later ones, so that one run reports everything. The last line is
//! `N passed, N failed, N skipped`. A stage without tests counts as one.

mod programs;
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

/// Feature of the optional kafka sink, which is tested too.
const KAFKA: &str = "sensor-tests/kafka";
const KERNEL_SUITE: &str = "kernel";
/// Suites that load BPF programs, or need a whole machine's memory or disk: one test at a time.
const ROOT_SUITES: [&str; 4] = [KERNEL_SUITE, "confinement", "truth", "unlucky"];
/// Connections a second that the kernel suite makes beside its tests, in a network namespace of its own:
/// a host has other traffic.
const BACKGROUND_RATE: &str = "200";
/// Suite that boots a machine with the package installed.
const SYSTEMD_SUITE: &str = "systemd";
/// Output directory of the package for that suite. It contains the agent that the other suites use.
const TESTED_PACKAGES: &str = "target/packages/tested";
/// Path of the log to which suites append a line `SKIPPED <test>: <reason>` for each skipped test.
const SKIP_LOG: &str = "target/skipped.txt";

/// Result of a stage.
enum Outcome {
    /// Completed, with the results of a check or suite.
    Done(Tally),
    Failed(String),
    Skipped(String),
}

/// State of a test run.
struct TestRun<'w> {
    workspace: &'w Workspace,
    fast: bool,
    skip_log: PathBuf,
    /// Path of the object built from source, after its stage.
    object: Option<PathBuf>,
    tally: Tally,
    /// Names of failed stages and tests.
    failed: Vec<String>,
    skipped: Skips,
}

/// Runs every stage. Fails if one of them failed.
pub(crate) fn test(workspace: &Workspace, fast: bool) -> anyhow::Result<ExitCode> {
    let skip_log = workspace.path(SKIP_LOG);
    std::fs::create_dir_all(workspace.path("target")).context("create target")?;
    std::fs::write(&skip_log, "").with_context(|| format!("write {SKIP_LOG}"))?;
    let mut run = TestRun {
        workspace,
        fast,
        skip_log,
        object: None,
        tally: Tally::default(),
        failed: Vec::new(),
        skipped: Skips::default(),
    };
    let started = now();
    run.stage("tools", |run| tools::ensure(run.workspace));
    // Overlaps downloads with compilation. No other stage installs packages meanwhile.
    let servers_workspace = workspace.clone();
    let servers =
        std::thread::spawn(move || (servers::ensure(&servers_workspace), programs::ensure()));
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
    run.stage("documentation", TestRun::documentation);
    let installed =
        servers.join().map_err(|_panic| anyhow::anyhow!("the installing thread panicked"));
    match installed {
        Ok((servers, programs)) => {
            run.stage("servers", |_run| Ok(servers));
            run.stage("programs", |_run| programs);
        }
        Err(error) => run.stage("servers", |_run| Err(error)),
    }
    run.stage("object", TestRun::object);
    run.stage("agent", |run| run.cargo(&host::BUILD_AGENT));
    run.stage("tests", TestRun::tests);
    run.stage("packages", TestRun::packages);
    run.stage("kernel", TestRun::kernel);
    run.stage("vm", TestRun::vm);
    Ok(run.finish(now().duration_since(started)))
}

impl TestRun<'_> {
    fn stage(&mut self, name: &str, perform: impl FnOnce(&mut Self) -> anyhow::Result<Outcome>) {
        println!("\n== {name}");
        let started = now();
        let outcome = perform(self).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = now().duration_since(started).as_secs_f32();
        let verdict = match outcome {
            Outcome::Done(tally) => {
                self.tally.add(tally);
                if tally.failed > 0 {
                    self.failed.push(format!("{name}: {} failed", tally.failed));
                }
                if tally.failed > 0 { "failed" } else { "passed" }
            }
            Outcome::Failed(reason) => {
                println!("{reason}");
                self.tally.failed += 1;
                self.failed.push(format!("{name}: {}", reason.lines().next().unwrap_or_default()));
                "failed"
            }
            Outcome::Skipped(reason) => {
                println!("SKIPPED {name}: {reason}");
                self.skipped.push(name, &reason);
                "skipped"
            }
        };
        println!("== {name}: {verdict} in {seconds:.1} s");
    }

    /// Runs a cargo command that passes or fails as a whole.
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

    /// Builds the object from source, for the kernel suite, and compares it with the committed one.
    fn object(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if let Err(error) = crate::toolchain::Toolchain::find_or_install() {
            return Ok(Outcome::Skipped(format!("{error:#}")));
        }
        let (path, comparison) = object::build_and_compare(self.workspace)?;
        self.object = Some(path);
        Ok(match comparison {
            Comparison::Same => Outcome::Done(Tally::PASSED),
            Comparison::Different => Outcome::Failed(format!(
                "{} differs from the sources' build; run cargo xtask build-ebpf",
                crate::object_lock::OBJECT
            )),
            Comparison::OtherTools { committed, local } => {
                println!(
                    "not compared: the committed object was built by {committed}, not {local}"
                );
                Outcome::Done(Tally::PASSED)
            }
        })
    }

    /// Runs all tests except [`ROOT_SUITES`] and the systemd suite, and the documentation's examples.
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
            if suite != SYSTEMD_SUITE && !ROOT_SUITES.contains(&suite.as_str()) {
                args.extend(["--test".into(), suite.into()]);
            }
        }
        let mut cargo = self.workspace.cargo();
        let mut tally = self.run_and_count(cargo.args(&args))?;
        let mut doc = self.workspace.cargo();
        tally.add(self.run_and_count(doc.args(["test", "--workspace", "--locked", "--doc"]))?);
        Ok(Outcome::Done(tally))
    }

    /// Runs [`ROOT_SUITES`], which require root.
    fn kernel(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        let mut present = suites(self.workspace)?;
        present.retain(|suite| ROOT_SUITES.contains(&suite.as_str()));
        if !present.iter().any(|suite| suite == KERNEL_SUITE) {
            return Ok(Outcome::Skipped("there is no kernel suite in tests/tests".to_owned()));
        }
        if !host::is_root() {
            return Ok(Outcome::Skipped("loading BPF programs needs root".to_owned()));
        }
        let mut cargo = self.workspace.cargo();
        cargo
            .args(["test", "--locked", "--package", "sensor-tests", "--no-fail-fast"])
            .args(present.iter().flat_map(|suite| ["--test", suite.as_str()]))
            .args(["--", "--test-threads=1"])
            .env("NETSENSOR_BIN", self.workspace.path("target/release/netsensor"))
            .env("NETSENSOR_TEST_BACKGROUND_RATE", BACKGROUND_RATE);
        if let Some(object) = &self.object {
            cargo.env("NETSENSOR_TEST_OBJECT", object);
        } else {
            println!("uses the committed object: none was built from source");
        }
        Ok(Outcome::Done(self.run_and_count(&mut cargo)?))
    }

    /// Packages the agent, and runs the suite that installs the packages. The package lacks the
    /// kafka sink, which takes minutes to build; `cargo xtask package` and the suite's own agent
    /// have it.
    fn packages(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if !host::can_install() {
            let reason = "packaging the agent and booting a machine need root and apt-get";
            return Ok(Outcome::Skipped(reason.to_owned()));
        }
        let binary = self.workspace.path("target/release/netsensor");
        let out = self.workspace.path(TESTED_PACKAGES);
        let packages = package::make(self.workspace, &binary, &out)?;
        let mut cargo = self.workspace.cargo();
        cargo
            .args(["test", "--workspace", "--locked", "--features", KAFKA])
            .args(["--test", SYSTEMD_SUITE, "--", "--test-threads=1", "--show-output"])
            .env("NETSENSOR_BIN", &binary)
            .env("NETSENSOR_DEB", &packages.deb)
            .env("NETSENSOR_RPM", &packages.rpm);
        Ok(Outcome::Done(self.run_and_count(&mut cargo)?))
    }

    /// Runs the agent on other kernels.
    fn vm(&mut self) -> anyhow::Result<Outcome> {
        if self.fast {
            return Ok(Outcome::Skipped("--fast".to_owned()));
        }
        if let Some(reason) = vm::unavailable_reason() {
            return Ok(Outcome::Skipped(reason));
        }
        let checks = vm::run(self.workspace, vm::MachineType::X86_64)?;
        Ok(Outcome::Done(Tally { passed: checks.passed, failed: checks.failed }))
    }

    /// Runs a test command, prints its output and counts its results.
    fn run_and_count(&mut self, command: &mut Command) -> anyhow::Result<Tally> {
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
        // A suite that did not build, or crashed, prints no result line.
        if !status.success() && tally.failed == 0 {
            tally.failed = 1;
        }
        Ok(tally)
    }

    /// Prints the failed and skipped tests, then the summary line.
    fn finish(mut self, elapsed: Duration) -> ExitCode {
        let log = std::fs::read_to_string(&self.skip_log).unwrap_or_default();
        self.tally.passed = self.tally.passed.saturating_sub(self.skipped.extend_from_log(&log));
        println!("\n== all: {} s", elapsed.as_secs());
        for (name, reason) in self.skipped.iter() {
            println!("SKIPPED {name}: {}", reason.lines().next().unwrap_or_default());
        }
        // A CI run that skips a whole suite must not pass like one that ran it.
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            for name in self.skipped.suites() {
                self.tally.failed += 1;
                self.failed.push(format!("{name}: skipped, which is a failure in CI"));
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

/// Names of all suites.
fn suites(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let files = workspace.files()?;
    Ok(files.iter().filter_map(|path| suite(path)).collect())
}

/// Name of the suite at `tests/tests/<name>.rs` or `tests/tests/<name>/main.rs`, cargo's layout.
fn suite(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(OsStr::to_str).collect();
    match parts.as_slice() {
        ["tests", "tests", file] => file.strip_suffix(".rs").map(str::to_owned),
        ["tests", "tests", folder, "main.rs"] => Some((*folder).to_owned()),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "durations are only printed")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_the_files_of_the_tests_directory() {
        for (path, expected) in [
            ("tests/tests/rule.rs", Some("rule")),
            ("tests/tests/kernel/main.rs", Some("kernel")),
            ("tests/tests/kernel/accept.rs", None),
            ("tests/tests/notes.md", None),
            ("tests/src/lib.rs", None),
        ] {
            assert_eq!(suite(Path::new(path)).as_deref(), expected, "{path}");
        }
    }
}
