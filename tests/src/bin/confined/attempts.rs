//! Attempts operations that a confined process may not perform. Each outcome is `ok` or the name of
//! the error.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, and fork")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{ForkResult, Uid, execv, fork, getppid, setuid};

/// Performs all attempts. Returns the outcome of each by name.
pub(crate) fn perform_all() -> BTreeMap<&'static str, String> {
    let mut outcomes = BTreeMap::new();
    let mut record = |name, outcome: io::Result<()>| {
        outcomes.insert(name, outcome_name(outcome));
    };
    kernel_interfaces(&mut record);
    process_creation(&mut record);
    other_processes_and_privileges(&mut record);
    file_writes(&mut record);
    permitted_operations(&mut record);
    outcomes
}

type Record<'a> = &'a mut dyn FnMut(&'static str, io::Result<()>);

fn kernel_interfaces(record: Record<'_>) {
    // Much larger than the attributes that any of these commands reads, and all zero.
    let attributes = [0_u64; 32];
    for (name, command) in
        [("bpf map create", 0), ("bpf program load", 5), ("bpf object get", 7), ("bpf link", 28)]
    {
        let at = attributes.as_ptr() as c_long;
        record(name, call(libc::SYS_bpf, [command, at, 120, 0, 0]));
    }
    let at = attributes.as_ptr() as c_long;
    record("perf_event_open", call(libc::SYS_perf_event_open, [at, 0, -1, -1, 0]));
    record("io_uring_setup", call(libc::SYS_io_uring_setup, [1, at, 0, 0, 0]));
    record("userfaultfd", call(libc::SYS_userfaultfd, [0; 5]));
    record("keyctl", call(libc::SYS_keyctl, [0; 5]));
    record("init_module", call(libc::SYS_init_module, [0; 5]));
    record("open_by_handle_at", call(libc::SYS_open_by_handle_at, [-100, at, 0, 0, 0]));
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    record(
        "memory to write and execute",
        call(libc::SYS_mmap, [0, 4096, both.into(), private.into(), -1]),
    );
}

fn process_creation(record: Record<'_>) {
    record("execve", execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into));
    let spawned = Command::new("/bin/true").spawn().and_then(|mut child| child.wait().map(drop));
    record("posix_spawn", spawned);
    let made = nix::sys::memfd::memfd_create(c"code", nix::sys::memfd::MFdFlags::empty());
    record(
        "execute memory",
        made.map_err(Into::into).and_then(|code| {
            io::copy(&mut File::open("/bin/true")?, &mut File::from(code.try_clone()?))?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&code));
            Command::new(path).spawn().and_then(|mut child| child.wait().map(drop))
        }),
    );
    // SAFETY: the child only exits.
    let forked = match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // SAFETY: `_exit` ends this process, which has nothing to clean up.
            unsafe { libc::_exit(0) }
        }
        other => other.map(drop).map_err(Into::into),
    };
    record("fork", forked);
}

fn other_processes_and_privileges(record: Record<'_>) {
    let parent = getppid();
    record("ptrace", ptrace::attach(parent).map_err(Into::into));
    record("signal", kill(parent, Signal::SIGCONT).map_err(Into::into));
    record(
        "process_vm_writev",
        call(libc::SYS_process_vm_writev, [parent.as_raw().into(), 0, 0, 0, 0]),
    );
    record("pidfd_getfd", call(libc::SYS_pidfd_getfd, [0; 5]));
    let own = File::open("/proc/self/ns/net");
    record("setns", own.and_then(|own| Ok(setns(own, CloneFlags::CLONE_NEWNET)?)));
    record("unshare", unshare(CloneFlags::CLONE_NEWNET).map_err(Into::into));
    let none: Option<&str> = None;
    let mounted = mount(none, &home("mount"), Some("tmpfs"), MsFlags::empty(), none);
    record("mount", mounted.map_err(Into::into));
    record("setuid", setuid(Uid::from_raw(0)).map_err(Into::into));
    for (name, family) in
        [("raw socket", AddressFamily::Inet), ("packet socket", AddressFamily::Packet)]
    {
        let made = socket(family, SockType::Raw, SockFlag::empty(), None);
        record(name, made.map(drop).map_err(Into::into));
    }
    let environment = format!("/proc/{parent}/environ");
    record("read another's environment", std::fs::read(environment).map(drop));
    let memory = format!("/proc/{parent}/mem");
    record("write another's memory", OpenOptions::new().write(true).open(memory).map(drop));
}

fn file_writes(record: Record<'_>) {
    for (name, path) in
        [("create in /tmp", "/tmp/netsensor-tried"), ("create in /etc", "/etc/netsensor-tried")]
    {
        let created = File::create(path);
        if created.is_ok() {
            let _removed = std::fs::remove_file(path);
        }
        record(name, created.map(drop));
    }
    let write = |path: &str| OpenOptions::new().write(true).open(path).map(drop);
    record("write /etc/passwd", write("/etc/passwd"));
    record("write its own memory", write("/proc/self/mem"));
    record("write a kernel setting", write("/proc/sys/kernel/core_pattern"));
    // Outside the state directory, in the test's home.
    record("make a folder", std::fs::create_dir(home("made")));
    record("rename", std::fs::rename(home("outside"), home("renamed")));
    record("remove", std::fs::remove_file(home("outside")));
}

fn permitted_operations(record: Record<'_>) {
    let path = home("netsensor/tried");
    record("state: create", File::create(&path).map(drop));
    record("state: remove", std::fs::remove_file(&path));
    record("write /dev/null", OpenOptions::new().write(true).open("/dev/null").map(drop));
    record("resolve", ("localhost", 80).to_socket_addrs().map(drop));
    let listener = TcpListener::bind("127.0.0.1:0");
    record("connect", listener.and_then(|it| TcpStream::connect(it.local_addr()?).map(drop)));
    record("thread", std::thread::Builder::new().spawn(|| {}).map(drop));
    record("read", std::fs::read(Path::new("/etc/passwd")).map(drop));
}

/// Path below the agent's home directory.
fn home(name: &str) -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(name)
}

fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the memory behind each pointer is larger than the range that the kernel reads or
    // writes, and outlives the call; no result of a successful call is used.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn outcome_name(outcome: io::Result<()>) -> String {
    match outcome {
        Ok(()) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.to_string(),
        },
    }
}
