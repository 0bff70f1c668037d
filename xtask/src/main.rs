//! Build tasks beyond cargo: run the agent with privileges, run all checks and tests, build the BPF
//! object, check the layout rules, run the agent on other kernels, run the benchmarks, build
//! packages.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod bench;
mod host;
mod object;
mod object_lock;
mod package;
mod run;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::host::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the agent and run it, with sudo if needed.
    Run {
        /// Arguments of `netsensor run`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run all checks, builds and tests; the last line counts the passed, failed and skipped.
    Test {
        /// Skip the documentation, the object built from source, the packages, the kernel suite and
        /// the other kernels.
        #[arg(long)]
        fast: bool,
    },
    /// Build the BPF object from source, and the lock with its sources and tools.
    BuildEbpf {
        /// Change nothing; report whether the committed object is reproduced from the sources.
        #[arg(long, conflicts_with = "out")]
        check: bool,
        /// Write only the object, to this path.
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Check the layout rules that no lint covers.
    Tidy,
    /// Run the agent on Debian's kernels, each in an emulated machine (QEMU).
    Vm {
        /// Architecture of the machines.
        #[arg(long, value_enum, default_value = "x86_64")]
        machine: vm::MachineType,
    },
    /// Build the .deb and .rpm packages, and check them.
    Package {
        /// Package this binary instead of building one.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// Run one benchmark, or all of them.
    Bench {
        /// Name of the benchmark.
        name: Option<String>,
        /// List the benchmarks.
        #[arg(long)]
        list: bool,
    },
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here();
    match task {
        Task::Run { args } => run::run(&workspace, &args),
        Task::Test { fast } => test::test(&workspace, fast),
        Task::BuildEbpf { check: true, .. } => object::check(&workspace),
        Task::BuildEbpf { out: Some(path), .. } => object::build_to(&workspace, &path),
        Task::BuildEbpf { .. } => object::build(&workspace),
        Task::Tidy => tidy::tidy(&workspace),
        Task::Vm { machine } => vm::vm(&workspace, machine),
        Task::Package { binary } => package::package(&workspace, binary),
        Task::Bench { list: true, .. } => bench::list(&workspace),
        Task::Bench { name, .. } => bench::bench(&workspace, name.as_deref()),
    }
}
