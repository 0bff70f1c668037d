//! Operations tried in the agent's own process, and the capabilities of its processes.

use std::collections::BTreeMap;

use crate::harness::{Home, START, all_workers, pause, skipped, status_of};

const CONFIG: &str = "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n";

/// The tried operations that must succeed.
const WORKS: [&str; 7] =
    ["state: create", "state: remove", "write /dev/null", "resolve", "connect", "thread", "read"];

#[test]
fn a_confined_agent_cannot_load_execute_or_write() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let line = agent.wait_for_log(START, "attempted {").text;
    let attempted: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(line.strip_prefix("attempted ").unwrap()).unwrap();
    assert_eq!(attempted.keys().collect::<Vec<_>>(), ["runtime", "thread"]);
    for (thread, all) in attempted {
        assert!(all.len() > 35, "{all:?}");
        for (operation, outcome) in all {
            let works = WORKS.contains(&operation.as_str());
            let expected: &[&str] = if works { &["ok"] } else { &["EPERM", "EACCES"] };
            assert!(expected.contains(&outcome.as_str()), "{operation} on a {thread}: {outcome}");
        }
    }
    let status = home.status();
    assert!(status.contains("confined  on\n"), "{status}");
    // A debug build parses the kernel's BTF only for a moment, on the same threads.
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap() {
        let number: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_holds(number, 0, 0, "the agent");
    }
    assert!(agent.stop().status.success());
}

#[test]
fn disabled_confinement_is_reported() {
    if skipped() {
        return;
    }
    let home = Home::new(&format!("[agent]\nconfine = false\n{CONFIG}"));
    // Without the hook, which would perform the operations.
    let agent = home.run_plain();
    let text = home.status();
    assert!(text.contains("confined  off (agent.confine = false)"), "{text}");
    let status = status_of(agent.pid());
    assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("0", "0"), "{status:?}");
    assert!(agent.stop().status.success());
}

#[test]
fn each_worker_has_only_the_capabilities_it_needs() {
    if skipped() {
        return;
    }
    let home = Home::new(CONFIG);
    let agent = home.run();
    let workers = all_workers(agent.pid());
    let bits = |numbers: &[u32]| numbers.iter().fold(0_u64, |set, number| set | 1 << number);
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN.
    let [proc, privileged] = [bits(&[2, 19]), bits(&[2, 12, 19, 21])];
    // The processes that started last may not be confined yet.
    let confined = |pid| status_of(pid)["Seccomp"] == "2";
    for _attempt in 0..50 {
        if workers.values().all(|pid| confined(*pid)) {
            break;
        }
        pause();
    }
    for (name, holds, effective) in [
        ("launcher", 0, 0),
        ("supervisor", privileged, 0),
        ("socket-scan", privileged, privileged),
        ("nat", privileged, privileged),
        ("proc", proc, proc),
    ] {
        assert_holds(workers[name], holds, effective, name);
    }
    for (name, pid) in &workers {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let targets: Vec<String> = targets.map(|it| it.display().to_string()).collect();
        let foreign = |it: &&String| it.contains("bpf") || it.contains("perf");
        assert_eq!(targets.iter().find(foreign), None, "{name}: {targets:?}");
    }
    assert!(agent.stop().status.success());
}

fn assert_holds(pid: u32, permitted: u64, effective: u64, process: &str) {
    let status = status_of(pid);
    let set = |name: &str| u64::from_str_radix(&status[name], 16).unwrap();
    assert_eq!((set("CapPrm"), set("CapEff")), (permitted, effective), "{process}: {status:?}");
    assert_eq!(set("CapBnd") & !permitted & !0x0028_1004, 0, "{process}: {status:?}");
    assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{process}: {status:?}");
}
