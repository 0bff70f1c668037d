//! The directory of a process in /proc, also after its first thread has ended.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Directory with the files, the program and the namespaces of a process, `/proc/PID`. If its first
/// thread has ended (`pthread_exit(3)` in `main`), that has none of them any more, and the directory is
/// that of another thread, `/proc/PID/task/TID`.
pub fn live_directory(process: &Path) -> PathBuf {
    let has_program = |directory: &Path| std::fs::read_link(directory.join("exe"));
    let own = has_program(process);
    // Without permission, those of the other threads are not readable either.
    if own.is_ok() || own.is_err_and(|error| error.kind() != ErrorKind::NotFound) {
        return process.to_owned();
    }
    let threads = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let mut live = threads.map(|thread| thread.path()).filter(|it| has_program(it).is_ok());
    live.next().unwrap_or_else(|| process.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_its_own_directory() {
        for process in ["/proc/self", "/proc/0", "/nonexistent"] {
            assert_eq!(live_directory(Path::new(process)), Path::new(process));
        }
    }

    #[test]
    fn without_a_program_the_directory_is_that_of_a_thread_with_one() {
        let process = tempfile::tempdir().unwrap();
        for thread in ["7", "8"] {
            std::fs::create_dir_all(process.path().join("task").join(thread)).unwrap();
        }
        assert_eq!(live_directory(process.path()), process.path());
        let live = process.path().join("task/8");
        std::os::unix::fs::symlink("/usr/bin/true", live.join("exe")).unwrap();
        assert_eq!(live_directory(process.path()), live);
    }
}
