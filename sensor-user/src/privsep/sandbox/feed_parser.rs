//! Confinement of the process that parses a feed.

use std::io;

use caps::CapsHashSet;
use nix::sys::resource::{Resource, setrlimit};

use super::{capabilities, syscalls};

/// Maximum address space of the parser, bytes. The largest set that was measured, a million STIX
/// indicators, takes less than 400 MiB.
const MEMORY_MAX: u64 = 1 << 30;
/// Least address space of the parser, bytes: it needs some for itself.
const MEMORY_MIN: u64 = 64 << 20;
/// Processor time of the parser, seconds.
const SECONDS_MAX: u64 = 300;
/// Maximum size of the file that it writes, bytes.
const FILE_MAX: u64 = 8 << 30;

/// Address space of the parser, of which one runs at a time: half of `memory_limit`, so that the agent keeps
/// the other half.
pub fn feed_parser_memory(memory_limit: u64) -> u64 {
    (memory_limit / 2).clamp(MEMORY_MIN, MEMORY_MAX)
}

/// Drops all capabilities for good, and forbids new files, sockets, processes and programs; bounds
/// memory (address space in bytes), time and output. Open files stay open.
///
/// An error means that the process is not confined; it must exit.
pub fn confine_feed_parser(memory: u64) -> io::Result<()> {
    for (resource, max) in [
        (Resource::RLIMIT_AS, memory),
        (Resource::RLIMIT_CPU, SECONDS_MAX),
        (Resource::RLIMIT_FSIZE, FILE_MAX),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, max, max)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    capabilities::keep_only(&CapsHashSet::new())?;
    syscalls::feed_parser().enforce()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::process::Command;

    use nix::libc;
    use nix::sys::signal::kill;
    use nix::unistd::{execv, getppid};

    use super::*;

    const ALONE: &str = "NETSENSOR_TEST_CONFINED";
    const NAME: &str =
        "privsep::sandbox::feed_parser::tests::a_confined_process_keeps_only_its_open_files";

    /// Runs in a process of its own (this test, started again), since confinement is final.
    #[test]
    fn a_confined_process_keeps_only_its_open_files() {
        if let Some(folder) = std::env::var_os(ALONE) {
            return try_all(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let mut test = Command::new(std::env::current_exe().unwrap());
        let test = test.args(["--exact", NAME, "--nocapture"]).env(ALONE, folder.path());
        let output = test.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && out.contains("all refused"), "{out}{failed}");
    }

    fn try_all(folder: &Path) {
        let mut open = tempfile::tempfile_in(folder).unwrap();
        let path = folder.join("new");
        let parent = getppid();
        confine_feed_parser(MEMORY_MAX).unwrap();

        open.write_all(b"still open").unwrap();
        open.rewind().unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still open");

        let refused = |what: &str, tried: io::Result<()>| {
            assert_eq!(tried.unwrap_err().raw_os_error(), Some(libc::EPERM), "{what}");
        };
        refused("open", File::open("/dev/null").map(drop));
        refused("create", File::create(&path).map(drop));
        refused("make a folder", std::fs::create_dir(&path));
        refused("remove", std::fs::remove_dir(folder));
        refused("list", std::fs::read_dir("/").map(drop));
        refused("connect", TcpStream::connect("127.0.0.1:9").map(drop));
        refused("bind", UdpSocket::bind("127.0.0.1:0").map(drop));
        refused("socketpair", UnixStream::pair().map(drop));
        refused("spawn a program", Command::new("/bin/true").spawn().map(drop));
        refused("exec", execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into));
        refused("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop));
        refused("signal", kill(parent, None).map_err(Into::into));
        let infinity = libc::RLIM_INFINITY;
        refused("raise", setrlimit(Resource::RLIMIT_AS, infinity, infinity).map_err(Into::into));
        let limit = usize::try_from(MEMORY_MAX).unwrap();
        assert!(Vec::<u8>::new().try_reserve_exact(limit).is_err(), "memory beyond the limit");
        println!("all refused");
    }
}
