//! Process metadata, for every method of starting a process.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{Home, Ledger, SOON, Server, V4, peer, skipped, text};

/// Runs `command`, which connects to an address of the list, and returns the alert.
fn alert_of(netns: &Netns, home: &Home, command: impl FnOnce(&Netns, &str) -> Command) -> Value {
    let (_server, port) = Server::peer(netns, V4);
    let agent = home.run();
    run(&mut command(netns, &format!("{V4}:{port}")));
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "Direction") == "outbound");
    assert!(agent.stop().status.success());
    alert
}

#[test]
fn a_program_on_another_mount_has_its_full_path() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let mount = home.path("mount/inner");
    std::fs::create_dir_all(&mount).unwrap();
    let script = "mount -t tmpfs none \"$1\" && mkdir \"$1/deep\" && cp \"$2\" \"$1/deep/prog\" && \
                  \"$1/deep/prog\" try \"$3\"";
    let alert = alert_of(&netns, &home, |netns, target| {
        let mut command = netns.command("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&mount).arg(peer()).arg(target);
        command
    });
    let path = mount.join("deep/prog");
    assert_eq!(text(&alert, "ProcessPath"), path.to_str().unwrap());
    assert_eq!(text(&alert, "ProcessName"), "prog");
}

#[test]
fn relative_paths_and_symbolic_links_are_resolved() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    std::fs::copy(peer(), home.path("real")).unwrap();
    std::os::unix::fs::symlink("real", home.path("link")).unwrap();
    let alert = alert_of(&netns, &home, |netns, target| {
        let mut command = netns.command("sh");
        let script = "cd \"$1\" && ./link try \"$2\"";
        command.args(["-c", script, "sh"]).arg(home.path("")).arg(target);
        command
    });
    assert_eq!(text(&alert, "ProcessPath"), home.path("real").to_str().unwrap());
    assert!(text(&alert, "CommandLine").starts_with("./link try "), "{alert}");
    assert_eq!(text(&alert, "ParentProcessName"), "dash");
}

#[test]
fn long_paths_and_command_lines_are_marked_as_truncated() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    // Longer than a record's 1024 bytes, shorter than the kernel's path limit.
    let folder = home.path(&vec!["d".repeat(200); 8].join("/"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("prog");
    std::fs::copy(peer(), &program).unwrap();
    let alert = alert_of(&netns, &home, |netns, target| {
        let mut command = netns.command(&program);
        command.args(["try", target]).args(vec!["argument"; 1000]);
        command
    });
    let path = text(&alert, "ProcessPath");
    assert!(path.starts_with("…/d") && path.ends_with("d/prog"), "{path}");
    assert!((800..1100).contains(&path.len()), "{}", path.len());
    let line = text(&alert, "CommandLine");
    assert!(line.ends_with(" …") && line.len() < 1100, "{line}");
}

#[test]
fn the_user_is_the_one_at_the_connect_not_at_the_exec() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let script = "
import os, socket, sys
os.setresuid(65534, 65534, 65534)
address, port = sys.argv[1].split(':')
socket.create_connection((address, int(port)), 5)
";
    let alert = alert_of(&netns, &home, |netns, target| {
        let mut command = netns.command("/usr/bin/python3");
        command.args(["-c", script, target]);
        command
    });
    assert_eq!(text(&alert, "UserName"), "nobody");
}

#[test]
fn a_forked_child_has_its_parents_executable_and_its_own_pid() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let script = "
import os, socket, sys
child = os.fork()
if child == 0:
    address, port = sys.argv[1].split(':')
    socket.create_connection((address, int(port)), 5)
    os._exit(0)
open(sys.argv[2], 'w').write(f'{child} {os.getpid()}')
os.waitpid(child, 0)
";
    let ids = home.path("ids");
    let alert = alert_of(&netns, &home, |netns, target| {
        let mut command = netns.command("/usr/bin/python3");
        command.args(["-c", script, target]).arg(&ids);
        command
    });
    let ids = std::fs::read_to_string(&ids).unwrap();
    let (child, _parent) = ids.split_once(' ').unwrap();
    assert_eq!(alert["ProcessId"].to_string(), child);
    assert!(text(&alert, "CommandLine").starts_with("/usr/bin/python3 -c"), "{alert}");
    assert_eq!(text(&alert, "ParentProcessName"), text(&alert, "ProcessName"));
}

/// A cgroup with the name that Docker gives a container's; removed when dropped.
pub(crate) struct Container {
    pub(crate) id: String,
    folder: std::path::PathBuf,
}

impl Container {
    pub(crate) fn new(first: char) -> Self {
        let id: String = format!("{first}{:063x}", std::process::id());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let root = std::path::Path::new(mount.split(' ').nth(1).unwrap());
        let folder = root.join(format!("docker-{id}.scope"));
        std::fs::create_dir(&folder).unwrap();
        Self { id, folder }
    }

    /// Moves a process into the cgroup.
    pub(crate) fn take(&self, pid: u32) {
        std::fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// A shell that enters the cgroup and then executes the peer, like a container's first process.
    fn connect(&self, netns: &Netns, target: &str) -> Command {
        let mut command = netns.command("sh");
        let script = "echo $$ > \"$1/cgroup.procs\" && exec \"$2\" try \"$3\"";
        command.args(["-c", script, "sh"]).arg(&self.folder).arg(peer()).arg(target);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A cgroup with a process in it cannot be removed.
        let _gone = std::fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_container_older_than_the_agent_is_identified() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let container = Container::new('a');
    let alert = alert_of(&netns, &home, |netns, target| container.connect(netns, target));
    assert_eq!(text(&alert, "ContainerId"), container.id);
    assert_eq!(text(&alert, "ProcessName"), "peer");
}

#[test]
fn a_short_lived_container_is_identified() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let (_server, port) = Server::peer(&netns, V4);
    let agent = home.run();
    // Created, used and removed while the agent is stopped: only the kernel's records have its
    // path.
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    let container = Container::new('b');
    run(&mut container.connect(&netns, &format!("{V4}:{port}")));
    let (id, folder) = (container.id.clone(), container.folder.clone());
    drop(container);
    assert!(!folder.exists());
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "Direction") == "outbound");
    assert_eq!(text(&alert, "ContainerId"), id);
    assert!(agent.stop().status.success());
}

const MANY: usize = 10_000;

#[test]
fn ten_thousand_short_lived_processes_are_known_from_kernel_records_alone() {
    if skipped() {
        return;
    }
    // Not one of the suite's indicators: other tests on this machine wait for alerts of those.
    let (netns, home) = (Netns::new(&["192.0.2.2"]), Home::new("", ""));
    let program = home.path("program");
    std::fs::copy(peer(), &program).unwrap();
    let path = program.to_str().unwrap();
    let target = "192.0.2.2:9";
    let recording = home.record();
    let words = ["processes", path, target, &MANY.to_string()];
    let output = run(netns.command(peer()).args(words)).stdout;
    let (lines, ended) = recording.end();
    let ledger = Ledger::of(&ended);
    ledger.assert_balances();
    assert_eq!(ledger.count("tcp_ring_full") + ledger.count("process_ring_full"), 0);

    let number = netns.inode();
    let mut seen: HashMap<u64, Vec<&Value>> = HashMap::new();
    for line in lines.iter().filter(|line| line["NetworkNamespace"] == number) {
        seen.entry(line["ProcessId"].as_u64().unwrap()).or_default().push(line);
    }
    assert_eq!(seen.len(), MANY);
    let output = String::from_utf8(output).unwrap();
    let mut arguments = HashSet::new();
    for line in output.lines() {
        let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [pid, parent, ticks, own_argument] = words.try_into().unwrap();
        let records = seen.remove(&pid).unwrap_or_else(|| panic!("{line} is not recorded"));
        let events: Vec<&str> = records.iter().map(|record| text(record, "Event")).collect();
        assert_eq!(events, ["opened", "failed"]);
        for record in records {
            assert_eq!(text(record, "ProcessPath"), path);
            let command_line = format!("{path} once {target} {own_argument}");
            assert_eq!(text(record, "CommandLine"), command_line);
            assert_eq!(record["UserId"], 0);
            assert_eq!(record["ParentProcessId"], parent);
            assert_eq!(text(record, "ParentProcessName"), "peer");
            assert_eq!(record["ProcessStartBootNs"].as_u64().unwrap() / 10_000_000, ticks);
        }
        arguments.insert(own_argument);
        // Other processes on this machine may have been read from /proc, but none of these.
        for log in ended.stderr.iter().filter(|log| log.text.contains(" process ")) {
            assert!(!log.text.ends_with(&format!(" pid={pid}")), "{}", log.text);
        }
    }
    assert_eq!((arguments.len(), seen.len()), (MANY, 0));
}
