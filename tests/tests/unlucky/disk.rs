//! State directories on disks that accept no writes at the start.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::run;

use crate::harness::{Home, assert_alert, lab, skipped};

/// Mounted file system; dropping it unmounts it.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path) -> Self {
        let options = ["-t", "tmpfs", "-o", "size=1m", "none"];
        Self::new(path, &options)
    }

    /// An ext4 of 8 MiB in the file `image`.
    fn ext4(path: &Path, image: &Path) -> Self {
        run(Command::new("truncate").args(["-s", "8M"]).arg(image));
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
        Self::new(path, &["-o", "loop", image.to_str().unwrap()])
    }

    fn new(path: &Path, source: &[&str]) -> Self {
        std::fs::create_dir_all(path).unwrap();
        run(Command::new("mount").args(source).arg(path));
        Self(path.to_owned())
    }

    /// Writes until there is no room for another byte.
    fn fill(&self) {
        let file = self.0.join("filler");
        let mut fill = Command::new("dd");
        fill.args(["if=/dev/zero", "bs=4k", "status=none"]);
        let filled = fill.arg(format!("of={}", file.display())).output().unwrap();
        assert!(!filled.status.success(), "the disk has room left");
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").args(["-l"]).arg(&self.0));
    }
}

/// Home with its state on a file system of its own. The mount is dropped first.
fn home_on(mount: impl Fn(&Path, &Path) -> Mount) -> (Home, Mount) {
    let home = Home::with_list();
    let root = home.path().to_owned();
    let state = root.join("state");
    let mounted = mount(&state, &root.join("image"));
    let path = root.join("netsensor.toml");
    let feeds = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("[agent]\nstate_dir = \"{}\"\n{feeds}", state.display()))
        .unwrap();
    (home, mounted)
}

/// The agent starts and alerts, and its log has the reason and what is lost.
fn assert_runs_from_memory(home: &Home, cause: &str, address: &str) {
    let agent = home.run();
    let line = agent.wait_for_log(crate::harness::START, "state directory cannot be written");
    assert!(line.text.contains(cause), "{}", line.text);
    assert!(line.text.contains("a restart loses: new feed sets"), "{}", line.text);
    agent.wait_for_log(crate::harness::START, "component is DEGRADED");
    assert_alert(&agent, &lab(), address);
    assert!(agent.stop().status.success());
}

#[test]
fn a_full_disk_at_the_start_costs_no_detection() {
    if skipped() {
        return;
    }
    let (home, mount) = home_on(|path, _| Mount::tmpfs(path));
    mount.fill();
    assert_runs_from_memory(&home, "No space left on device", "203.0.113.21");
    // With room again the next start uses the disk.
    std::fs::remove_file(mount.0.join("filler")).unwrap();
    let agent = home.run();
    assert_alert(&agent, &lab(), "203.0.113.22");
    let status = home.status();
    assert!(status.starts_with("OK"), "{status}");
    assert!(agent.stop().status.success());
    assert!(mount.0.join("agent-id").is_file());
}

#[test]
fn a_read_only_disk_keeps_its_agent_id_and_its_sets_in_use() {
    if skipped() {
        return;
    }
    let (home, mount) = home_on(Mount::ext4);
    assert!(home.run().stop().status.success());
    let id = std::fs::read_to_string(mount.0.join("agent-id")).unwrap();
    mount.remount("ro");
    let agent = home.run();
    agent.wait_for_log(crate::harness::START, "Read-only file system");
    agent.wait_for_log(crate::harness::START, "last good set loaded");
    agent.wait_for_log(crate::harness::START, &format!("agent id {}", id.trim_end()));
    assert_alert(&agent, &lab(), "203.0.113.23");
    assert!(agent.stop().status.success());
    mount.remount("rw");
    assert!(mount.0.join("feeds/lab.set").is_file());
}

#[test]
fn a_read_only_disk_without_any_state_costs_no_detection() {
    if skipped() {
        return;
    }
    let (home, mount) = home_on(Mount::ext4);
    mount.remount("ro");
    assert_runs_from_memory(&home, "Read-only file system", "203.0.113.24");
}
