//! The host and the working tree: paths, privileges, installed programs.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use walkdir::WalkDir;

/// Working tree of the project.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Working tree that this program was built from.
    pub(crate) fn here() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: package.parent().unwrap_or(package).to_owned() }
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Absolute path of `inside`, which is relative to the root.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.root.join(inside)
    }

    /// Command with the root as working directory.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Command for the cargo that runs this program, with the environment of a call from a shell.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // `cargo run` sets variables for this package. Build scripts (ring's) watch them, so all
        // dependents would be rebuilt whenever cargo is called from a shell after xtask.
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| is_package_variable(&name.to_string_lossy())) {
            cargo.env_remove(name);
        }
        cargo
    }

    /// Files that git tracks or would track, relative to the root and sorted. Without git, all
    /// files except those in build directories.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let listed = self
            .command("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .stderr(Stdio::null())
            .output();
        let mut files: Vec<PathBuf> = match listed {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
                .split('\0')
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .filter(|path| self.path(path).is_file())
                .collect(),
            _ => self.walk()?,
        };
        files.sort_unstable();
        files.dedup();
        Ok(files)
    }

    fn walk(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let entries = WalkDir::new(&self.root).into_iter().filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !(name == ".git" || name.starts_with("target"))
        });
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", self.root.display()))?;
            if entry.file_type().is_file() {
                files.push(entry.path().strip_prefix(&self.root)?.to_owned());
            }
        }
        Ok(files)
    }
}

/// True for variables that cargo sets for the package that it runs.
fn is_package_variable(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Runs `command`. A nonzero exit status is an error with the program's name.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = name(command);
    let status = command.status().with_context(|| format!("run {name}"))?;
    if !status.success() {
        bail!("{name}: failed with {status}");
    }
    Ok(())
}

/// Runs `command` and returns its trimmed standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = name(command);
    let output = command.output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name}: failed with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Name of the program and its first argument, such as `cargo clippy`.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words: Vec<_> = std::iter::once(program)
        .chain(command.get_args().take(1))
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// Finds `program` on the `PATH`, in `extra_directories`, or in the system's sbin directories.
pub(crate) fn find_program(program: &str, extra_directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend_from_slice(extra_directories);
    // The PATH of an unprivileged user often lacks the sbin directories.
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// True if the effective user id is 0.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| effective_uid(&status) == Some(0))
}

/// Effective user id: the second number of the `Uid:` line of `/proc/<pid>/status`.
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// True if packages can be installed: as root, with apt-get.
pub(crate) fn can_install() -> bool {
    is_root() && find_program("apt-get", &[]).is_some()
}

/// Cargo arguments that build the agent. All tasks use the same: with `--package`, the dependencies
/// would have other features than in the suites and be built twice.
pub(crate) const BUILD_AGENT: [&str; 5] = ["build", "--release", "--locked", "--bin", "netsensor"];

/// Returns the Debian packages of missing programs. `tools` are pairs of program and package.
pub(crate) fn missing(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    let absent = tools.iter().filter(|(program, _)| find_program(program, &[]).is_none());
    absent.map(|(_, package)| *package).collect()
}

/// Installs Debian packages with apt-get. Their services are not started.
pub(crate) fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    println!("installing {}", packages.join(" "));
    let _policy = ServicePolicy::deny(Path::new(SERVICE_POLICY))?;
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Program that Debian's installers run before they start a service (`invoke-rc.d(8)`).
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it exists, Debian's installers start no services. Keeps a policy that the host has already.
struct ServicePolicy {
    created: Option<PathBuf>,
}

impl ServicePolicy {
    fn deny(path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            return Ok(Self { created: None });
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self { created: Some(path.to_owned()) })
    }
}

impl Drop for ServicePolicy {
    fn drop(&mut self) {
        if let Some(path) = &self.created
            && let Err(error) = std::fs::remove_file(path)
        {
            println!("remove {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_for_services_is_removed_again_but_not_the_one_of_the_host() {
        let path = std::env::temp_dir().join(format!("policy-{}", std::process::id()));
        let policy = ServicePolicy::deny(&path).unwrap();
        let status = Command::new(&path).status().unwrap();
        assert_eq!(status.code(), Some(101));
        drop(ServicePolicy::deny(&path).unwrap());
        assert!(path.exists());
        drop(policy);
        assert!(!path.exists());
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        let status = "Name:\tx\nUmask:\t0022\nUid:\t1000\t0\t1000\t1000\n";
        assert_eq!(effective_uid(status), Some(0));
        assert_eq!(effective_uid("Uid:\t7\n"), None);
        assert_eq!(effective_uid(""), None);
    }

    #[test]
    fn a_program_is_found_on_the_path_or_in_an_extra_directory() {
        assert!(find_program("sh", &[]).is_some());
        assert_eq!(find_program("no-such-program", &[]), None);
        let here = Workspace::here();
        let extra = [here.path(".cargo")];
        assert_eq!(find_program("config.toml", &extra), Some(here.path(".cargo/config.toml")));
    }

    #[test]
    fn the_files_of_the_tree_are_listed_without_build_output() {
        let here = Workspace::here();
        for files in [here.files().unwrap(), here.walk().unwrap()] {
            assert!(files.contains(&PathBuf::from("xtask/src/host.rs")));
            assert!(!files.iter().any(|path| path.starts_with("target")));
        }
    }

    #[test]
    fn cargo_runs_without_the_variables_of_this_package() {
        for (variable, expected) in [
            ("CARGO_PKG_NAME", true),
            ("CARGO_MANIFEST_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_TARGET_DIR", false),
        ] {
            assert_eq!(is_package_variable(variable), expected, "{variable}");
        }
        let cargo = Workspace::here().cargo();
        let removed: Vec<_> = cargo.get_envs().map(|(name, _)| name).collect();
        assert!(removed.contains(&OsStr::new("CARGO_MANIFEST_DIR")), "{removed:?}");
    }

    #[test]
    fn the_error_of_a_failed_command_names_it() {
        let error = run(Command::new("/bin/false").args(["first", "second"])).unwrap_err();
        assert_eq!(error.to_string(), "false first: failed with exit status: 1");
    }
}
