//! What is tried in the agent's own process, and what the processes hold.

use std::collections::BTreeMap;

use crate::harness::{Home, START, all_helpers, pause, skipped, status_of};

const QUIET: &str = "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n";

/// What must go on, of all that is tried.
const WORKS: [&str; 7] =
    ["state: create", "state: remove", "write /dev/null", "resolve", "connect", "thread", "read"];

#[test]
fn a_confined_agent_loads_executes_and_writes_nothing() {
    if skipped() {
        return;
    }
    let home = Home::new(QUIET);
    let agent = home.run();
    let line = agent.wait_for_log(START, "tried {").text;
    let tried: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(line.strip_prefix("tried ").unwrap()).unwrap();
    assert_eq!(tried.keys().collect::<Vec<_>>(), ["runtime", "thread"]);
    for (thread, all) in tried {
        assert!(all.len() > 35, "{all:?}");
        for (what, outcome) in all {
            let works = WORKS.contains(&what.as_str());
            let expected: &[&str] = if works { &["ok"] } else { &["EPERM", "EACCES"] };
            assert!(expected.contains(&outcome.as_str()), "{what} on a {thread}: {outcome}");
        }
    }
    let said = home.status();
    assert!(said.contains("confined  on\n"), "{said}");
    // A debug build holds the kernel's types no longer than a moment: the threads are all there.
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap() {
        let number: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_holds(number, 0, 0, "the agent");
    }
    assert!(agent.stop().status.success());
}

#[test]
fn without_confinement_it_says_so() {
    if skipped() {
        return;
    }
    let home = Home::new(&format!("[agent]\nconfine = false\n{QUIET}"));
    // Not the one with the hook, which would do all that it tries.
    let agent = home.run_plain();
    let said = home.status();
    assert!(said.contains("confined  off (agent.confine = false)"), "{said}");
    let status = status_of(agent.pid());
    assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("0", "0"), "{status:?}");
    assert!(agent.stop().status.success());
}

#[test]
fn each_helper_holds_what_it_needs() {
    if skipped() {
        return;
    }
    let home = Home::new(QUIET);
    let agent = home.run();
    let helpers = all_helpers(agent.pid());
    let bits = |numbers: &[u32]| numbers.iter().fold(0_u64, |set, number| set | 1 << number);
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN.
    let [processes, looks] = [bits(&[2, 19]), bits(&[2, 12, 19, 21])];
    // Those that were started last may still be about to.
    let confined = |pid| status_of(pid)["Seccomp"] == "2";
    for _look in 0..50 {
        if helpers.values().all(|pid| confined(*pid)) {
            break;
        }
        pause();
    }
    for (name, holds, effective) in [
        ("launcher", 0, 0),
        ("keeper", looks, 0),
        ("looks", looks, looks),
        ("translations", looks, looks),
        ("processes", processes, processes),
    ] {
        assert_holds(helpers[name], holds, effective, name);
    }
    for (name, pid) in &helpers {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let targets: Vec<String> = targets.map(|it| it.display().to_string()).collect();
        let foreign = |it: &&String| it.contains("bpf") || it.contains("perf");
        assert_eq!(targets.iter().find(foreign), None, "{name}: {targets:?}");
    }
    assert!(agent.stop().status.success());
}

fn assert_holds(pid: u32, permitted: u64, effective: u64, who: &str) {
    let status = status_of(pid);
    let set = |name: &str| u64::from_str_radix(&status[name], 16).unwrap();
    assert_eq!((set("CapPrm"), set("CapEff")), (permitted, effective), "{who}: {status:?}");
    assert_eq!(set("CapBnd") & !permitted & !0x0028_1004, 0, "{who}: {status:?}");
    assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{who}: {status:?}");
}
