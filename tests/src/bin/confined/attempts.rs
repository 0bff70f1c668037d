//! What is tried, and what came of it: `ok`, or the name of the error.
#![expect(unsafe_code, reason = "system calls that nobody wraps, and fork")]

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

/// All of it.
pub(crate) fn all() -> BTreeMap<&'static str, String> {
    let mut tried = BTreeMap::new();
    let mut add = |name, outcome: io::Result<()>| {
        tried.insert(name, told(outcome));
    };
    kernel(&mut add);
    programs(&mut add);
    others(&mut add);
    files(&mut add);
    must_work(&mut add);
    tried
}

type Add<'a> = &'a mut dyn FnMut(&'static str, io::Result<()>);

fn kernel(add: Add<'_>) {
    // Far larger than what any of these commands reads, and all zero.
    let attributes = [0_u64; 32];
    for (name, command) in
        [("bpf map create", 0), ("bpf program load", 5), ("bpf object get", 7), ("bpf link", 28)]
    {
        let at = attributes.as_ptr() as c_long;
        add(name, call(libc::SYS_bpf, [command, at, 120, 0, 0]));
    }
    let at = attributes.as_ptr() as c_long;
    add("perf_event_open", call(libc::SYS_perf_event_open, [at, 0, -1, -1, 0]));
    add("io_uring_setup", call(libc::SYS_io_uring_setup, [1, at, 0, 0, 0]));
    add("userfaultfd", call(libc::SYS_userfaultfd, [0; 5]));
    add("keyctl", call(libc::SYS_keyctl, [0; 5]));
    add("init_module", call(libc::SYS_init_module, [0; 5]));
    add("open_by_handle_at", call(libc::SYS_open_by_handle_at, [-100, at, 0, 0, 0]));
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    add(
        "memory to write and execute",
        call(libc::SYS_mmap, [0, 4096, both.into(), private.into(), -1]),
    );
}

fn programs(add: Add<'_>) {
    add("execve", execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into));
    let spawned = Command::new("/bin/true").spawn().and_then(|mut child| child.wait().map(drop));
    add("posix_spawn", spawned);
    let made = nix::sys::memfd::memfd_create(c"code", nix::sys::memfd::MFdFlags::empty());
    add(
        "execute memory",
        made.map_err(Into::into).and_then(|code| {
            io::copy(&mut File::open("/bin/true")?, &mut File::from(code.try_clone()?))?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&code));
            Command::new(path).spawn().and_then(|mut child| child.wait().map(drop))
        }),
    );
    // SAFETY: the child does nothing but end.
    let forked = match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // SAFETY: it ends this process, which has nothing to clean up.
            unsafe { libc::_exit(0) }
        }
        other => other.map(drop).map_err(Into::into),
    };
    add("fork", forked);
}

fn others(add: Add<'_>) {
    let parent = getppid();
    add("ptrace", ptrace::attach(parent).map_err(Into::into));
    add("signal", kill(parent, Signal::SIGCONT).map_err(Into::into));
    add(
        "process_vm_writev",
        call(libc::SYS_process_vm_writev, [parent.as_raw().into(), 0, 0, 0, 0]),
    );
    add("pidfd_getfd", call(libc::SYS_pidfd_getfd, [0; 5]));
    let own = File::open("/proc/self/ns/net");
    add("setns", own.and_then(|own| Ok(setns(own, CloneFlags::CLONE_NEWNET)?)));
    add("unshare", unshare(CloneFlags::CLONE_NEWNET).map_err(Into::into));
    let none: Option<&str> = None;
    let mounted = mount(none, &home("mount"), Some("tmpfs"), MsFlags::empty(), none);
    add("mount", mounted.map_err(Into::into));
    add("setuid", setuid(Uid::from_raw(0)).map_err(Into::into));
    for (name, family) in
        [("raw socket", AddressFamily::Inet), ("packet socket", AddressFamily::Packet)]
    {
        let made = socket(family, SockType::Raw, SockFlag::empty(), None);
        add(name, made.map(drop).map_err(Into::into));
    }
    let environment = format!("/proc/{parent}/environ");
    add("read another's environment", std::fs::read(environment).map(drop));
    let memory = format!("/proc/{parent}/mem");
    add("write another's memory", OpenOptions::new().write(true).open(memory).map(drop));
}

fn files(add: Add<'_>) {
    for (name, path) in
        [("create in /tmp", "/tmp/netsensor-tried"), ("create in /etc", "/etc/netsensor-tried")]
    {
        let created = File::create(path);
        if created.is_ok() {
            let _removed = std::fs::remove_file(path);
        }
        add(name, created.map(drop));
    }
    let write = |path: &str| OpenOptions::new().write(true).open(path).map(drop);
    add("write /etc/passwd", write("/etc/passwd"));
    add("write its own memory", write("/proc/self/mem"));
    add("write a kernel setting", write("/proc/sys/kernel/core_pattern"));
    // Beside the state, and the test's.
    add("make a folder", std::fs::create_dir(home("made")));
    add("rename", std::fs::rename(home("outside"), home("renamed")));
    add("remove", std::fs::remove_file(home("outside")));
}

fn must_work(add: Add<'_>) {
    let path = home("netsensor/tried");
    add("state: create", File::create(&path).map(drop));
    add("state: remove", std::fs::remove_file(&path));
    add("write /dev/null", OpenOptions::new().write(true).open("/dev/null").map(drop));
    add("resolve", ("localhost", 80).to_socket_addrs().map(drop));
    let listener = TcpListener::bind("127.0.0.1:0");
    add("connect", listener.and_then(|it| TcpStream::connect(it.local_addr()?).map(drop)));
    add("thread", std::thread::Builder::new().spawn(|| {}).map(drop));
    add("read", std::fs::read(Path::new("/etc/passwd")).map(drop));
}

/// A path below the home of this test's agent.
fn home(name: &str) -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(name)
}

fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: what a pointer points at is larger than what the kernel reads or writes there, and
    // outlives the call; nothing that succeeds is used.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn told(outcome: io::Result<()>) -> String {
    match outcome {
        Ok(()) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.to_string(),
        },
    }
}
