//! What reads a feed gives up all that this does not need.

use std::io;

use caps::CapsHashSet;
use nix::sys::resource::{Resource, setrlimit};

use super::{capabilities, syscalls};

/// Address space of the reader, bytes. The largest set that was measured, a million STIX
/// indicators, takes less than 400 MiB.
pub const MEMORY_MAX: u64 = 1 << 30;
/// Processor time of the reader, seconds.
const SECONDS_MAX: u64 = 300;
/// Bytes of the file that it writes.
const FILE_MAX: u64 = 8 << 30;

/// From here on: no capabilities and none to come by, no new files, sockets, processes or
/// programs, bounded memory, time and output. What is open stays open.
///
/// An error means that the process is not confined; it must not go on.
pub fn confine_reader() -> io::Result<()> {
    for (resource, max) in [
        (Resource::RLIMIT_AS, MEMORY_MAX),
        (Resource::RLIMIT_CPU, SECONDS_MAX),
        (Resource::RLIMIT_FSIZE, FILE_MAX),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, max, max)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    capabilities::keep_only(&CapsHashSet::new())?;
    syscalls::reader().enforce()
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
    const NAME: &str = "confine::reader::tests::a_confined_process_has_nothing_but_what_is_open";

    /// In a process of its own (this test, started again), since there is no way back.
    #[test]
    fn a_confined_process_has_nothing_but_what_is_open() {
        if let Some(folder) = std::env::var_os(ALONE) {
            return try_all(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let mut test = Command::new(std::env::current_exe().unwrap());
        let test = test.args(["--exact", NAME, "--nocapture"]).env(ALONE, folder.path());
        let output = test.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("all refused"), "{said}{failed}");
    }

    fn try_all(folder: &Path) {
        let mut open = tempfile::tempfile_in(folder).unwrap();
        let path = folder.join("new");
        let parent = getppid();
        confine_reader().unwrap();

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
        refused("pair", UnixStream::pair().map(drop));
        refused("start a program", Command::new("/bin/true").spawn().map(drop));
        refused("become one", execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into));
        refused("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop));
        refused("signal", kill(parent, None).map_err(Into::into));
        let most = libc::RLIM_INFINITY;
        refused("raise", setrlimit(Resource::RLIMIT_AS, most, most).map_err(Into::into));
        let one = usize::try_from(MEMORY_MAX).unwrap();
        assert!(Vec::<u8>::new().try_reserve_exact(one).is_err(), "more memory than there is");
        println!("all refused");
    }
}
