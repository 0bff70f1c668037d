//! What cargo cannot do: run the agent with privileges, test everything, build the BPF object,
//! check the layout rules, run the agent on other kernels, run the benchmarks, make packages.
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
    /// Build the agent and run it, with sudo where needed.
    Run {
        /// Passed to `netsensor run`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Check, build and test everything; the last line counts what passed, failed and was skipped.
    Test {
        /// Leave out the documentation, the object built from source, the kernel suite and other
        /// kernels.
        #[arg(long)]
        fast: bool,
    },
    /// Build the BPF object from source, with the lock that says what it was built from.
    BuildEbpf {
        /// Change nothing; say whether the committed object is what the sources give.
        #[arg(long, conflicts_with = "out")]
        check: bool,
        /// Write only the object, and there.
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Check the layout rules that no lint knows.
    Tidy,
    /// Run the agent on Debian's kernels, each in an emulated machine.
    Vm {
        /// What the machines are.
        #[arg(long, value_enum, default_value = "x86_64")]
        machine: vm::Kind,
    },
    /// Make the packages for Debian and for Red Hat's kin, and check them.
    Package {
        /// Pack this agent instead of building one.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// Run one benchmark, or all of them.
    Bench {
        /// Which one.
        name: Option<String>,
        /// Say which there are.
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
