//! The lifecycle of the service, from installation to purge.

mod metrics;
mod removal;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sensor_tests::{Collector, Netns, ScriptedResponse};
use tokio::time::Instant;

use super::machine::Machine;
use super::package;
use super::stall::Stall;

/// Addresses of the example's network, one per alert: a second connection to the same address would
/// be counted, and not raise another alert.
const ADDRESSES: [&str; 12] = [
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.3",
    "198.51.100.4",
    "198.51.100.5",
    "198.51.100.6",
    "198.51.100.7",
    "198.51.100.8",
    "198.51.100.9",
    "198.51.100.10",
    "198.51.100.11",
    "198.51.100.12",
];
const CONFIG: &str = "/etc/netsensor/netsensor.toml";
/// Capabilities that the unit grants: `CAP_NET_ADMIN`, `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH`,
/// `CAP_PERFMON`, `CAP_BPF`.
const GRANTED: u64 = 1 << 12 | 1 << 19 | 1 << 2 | 1 << 38 | 1 << 39;
const CAP_BPF: u64 = 1 << 39;
/// A shorter watchdog timeout, to detect a stall quickly; 30 s as shipped.
const WATCHDOG: &str = "[Service]\nWatchdogSec=4s\n";
/// Time limit for an alert, generous for a busy host.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn the_service_passes_its_whole_lifecycle() {
    let Some(package) = package() else { return };
    let mut service = Lifecycle::start(&package);
    service.check_installation();
    service.check_confinement();
    service.check_private_files();
    service.check_reload();
    service.check_systemd_credential();
    service.check_metrics_for_a_group();
    service.check_broken_configuration();
    service.check_watchdog_restart();
    service.check_restart_after_kill();
    service.check_reboot();
    service.check_upgrade(&package);
    service.check_purge();
}

struct Lifecycle {
    machine: Machine,
    collector: Collector,
    /// True while the collector accepts alerts.
    accepting: Arc<AtomicBool>,
    /// True once the sink's configuration has a secret.
    has_secret: bool,
    /// Number of addresses already used.
    used: usize,
}

impl Lifecycle {
    fn start(package: &Path) -> Self {
        let machine = Machine::boot(Netns::new(&ADDRESSES), package);
        let accepting = Arc::new(AtomicBool::new(true));
        let accepts = Arc::clone(&accepting);
        let respond = move |_: usize, _: &_| {
            if accepts.load(Ordering::Acquire) {
                ScriptedResponse::OK
            } else {
                ScriptedResponse::status(503)
            }
        };
        let collector = machine.netns.inside(|| Collector::start(respond));
        Self { machine, collector, accepting, has_secret: false, used: 0 }
    }

    /// The package's configuration, plus the collector.
    fn config(&self) -> String {
        let shipped = include_str!("../../../../packaging/netsensor.toml");
        let url = self.collector.url();
        let token = "token = { credential = \"webhook-token\" }\n";
        let token = if self.has_secret { token } else { "" };
        format!(
            "{shipped}\n[[sink]]\nname = \"collector\"\nkind = \"http\"\nurl = \"{url}\"\n{token}"
        )
    }

    fn main_pid(&self) -> String {
        self.machine.sh("systemctl show -P MainPID netsensor").trim().to_owned()
    }

    /// Connects to an unused address, which has no listener.
    fn connect(&mut self) -> &'static str {
        let address = *ADDRESSES.get(self.used).expect("an unused address");
        self.used += 1;
        let script = format!("exec 3<>/dev/tcp/{address}/443");
        let refused = self.machine.attempt(&format!("bash -c '{script}'"));
        assert!(!refused.status.success(), "something listens at {address}");
        address
    }

    /// Makes a real connection, and waits for its alert at the collector.
    fn check_alert(&mut self, when: &str) {
        let address = self.connect();
        self.wait_for_alert(address, when);
    }

    fn wait_for_alert(&self, address: &str, when: &str) {
        let deadline = Instant::now() + LIMIT;
        while self.accepted_alerts(address) == 0 {
            let journal = || self.machine.journal();
            if Instant::now() >= deadline {
                let bodies = self.collector.requests().into_iter().map(|request| request.body);
                let about: Vec<String> = bodies.filter(|body| body.contains(address)).collect();
                panic!("{when}: no alert for {address}, but {about:?}\n{}", journal());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        println!("{when}: the alert for {address} is at the collector");
    }

    /// Number of distinct alerts for an address that the collector has accepted.
    fn accepted_alerts(&self, address: &str) -> usize {
        let requests = self.collector.requests();
        let items =
            requests.iter().filter(|it| it.accepted).flat_map(sensor_tests::RecordedRequest::items);
        let about = items.filter(|item| {
            item.get("MatchedIp").is_some_and(|ip| ip == address)
                && item.get("ProcessPath").is_some_and(|path| path == "/usr/bin/bash")
        });
        let ids: BTreeSet<String> =
            about.filter_map(|item| Some(item.get("AlertId")?.as_str()?.to_owned())).collect();
        ids.len()
    }

    fn check_installation(&mut self) {
        let verify = "systemd-analyze verify /lib/systemd/system/netsensor.service 2>&1";
        let install = "apt-get install -y /srv/netsensor.deb </dev/null";
        self.machine.sh(install);
        assert_eq!(self.machine.sh("systemctl is-active netsensor").trim(), "active");
        assert_eq!(self.machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
        let result = self.machine.attempt(verify);
        let output = String::from_utf8_lossy(&result.stdout).into_owned();
        // The man pages are missing without the package man-db.
        let about_unit = output.lines().filter(|line| !line.contains("man ")).collect::<String>();
        assert_eq!(about_unit, "", "systemd-analyze verify");
        let status = self.machine.sh("systemctl show -P StatusText netsensor");
        assert!(status.starts_with("OK"), "{status}");
        self.machine.sh("test -s /usr/share/man/man1/netsensor-status.1.gz");
        // With the package's configuration, and without interaction.
        let address = self.connect();
        let alert =
            format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
        self.machine.wait_for("the first alert, in the file", &alert);
        let line =
            format!("journalctl -u netsensor | grep -F 'ALERT outbound bash' | grep -F {address}");
        self.machine.wait_for("the first alert, in the journal", &line);
        let status = self.machine.sh("netsensor status");
        println!("installed:\n{status}");
        let off = self.machine.sh("journalctl -u netsensor | grep -F 'probes off' || true");
        println!("what cannot be attached inside: {}", off.trim());
    }

    fn check_confinement(&self) {
        let (main, user) = (self.main_pid(), self.machine.sh("id -u netsensor"));
        let cgroup = "systemctl show -P ControlGroup netsensor";
        let list = format!(
            "cat \"$(echo /sys/fs/cgroup/unified /sys/fs/cgroup | tr ' ' '\\n' | \
             while read root; do f=$root$({cgroup})/cgroup.procs; test -e $f && echo $f; done | \
             head -n 1)\""
        );
        let pids = self.machine.sh(&list);
        assert!(pids.lines().count() > 1, "the agent and its helpers: {pids}");
        for pid in pids.lines() {
            let status = self.machine.sh(&format!("cat /proc/{pid}/status"));
            let words = self.machine.sh(&format!("tr '\\0' ' ' < /proc/{pid}/cmdline"));
            let value = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
            };
            let set = |name: &str| u64::from_str_radix(&value(name), 16).unwrap();
            let [permitted, effective, bounding] = ["CapPrm:", "CapEff:", "CapBnd:"].map(set);
            let (privileges, seccomp) = (value("NoNewPrivs:"), value("Seccomp:"));
            println!(
                "{words}: permitted {permitted:x}, effective {effective:x}, bounding {bounding:x}, \
                 no new privileges {privileges}, seccomp {seccomp}"
            );
            assert_eq!(value("Uid:"), [user.trim(); 4].join("\t"), "{words}");
            assert_eq!((privileges.as_str(), seccomp.as_str()), ("1", "2"), "{words}");
            for held in [permitted, effective, bounding, set("CapInh:"), set("CapAmb:")] {
                assert_eq!(held & !GRANTED, 0, "{words} has more than the unit grants");
            }
            if pid == main {
                // Since Linux 5.19 a process can access its own maps without a capability.
                assert_eq!(permitted & !CAP_BPF, 0, "the agent drops all other capabilities");
                assert_eq!(set("CapAmb:") | set("CapInh:"), 0, "and its children inherit none");
            }
        }
    }

    fn check_private_files(&self) {
        let open = "find /var/lib/netsensor /run/netsensor \\( -type f -o -type s \\) -perm /077";
        assert_eq!(self.machine.sh(open), "", "files and sockets with access for others");
        assert_eq!(self.machine.sh("stat -c '%a %U' /var/lib/netsensor").trim(), "700 netsensor");
    }

    fn check_reload(&mut self) {
        self.machine.write(CONFIG, &self.config());
        let pid = self.main_pid();
        self.machine.sh("systemctl reload netsensor");
        let is_ok = "systemctl show -P StatusText netsensor | grep -q ^OK";
        self.machine.wait_for("OK after the reload", is_ok);
        self.check_alert("reloaded");
        assert_eq!(self.main_pid(), pid, "a reload is not a restart");
    }

    /// Follows the shipped example of a drop-in.
    fn check_systemd_credential(&mut self) {
        let folder = "/etc/netsensor/credentials";
        self.machine.sh(&format!("install -d -m 0700 {folder}"));
        for name in ["taxii-password", "webhook-token"] {
            self.machine.write(&format!("{folder}/{name}"), &format!("of {name}\n"));
            self.machine.sh(&format!("chmod 0600 {folder}/{name}"));
        }
        self.machine.sh("install -D -m 0644 /usr/share/doc/netsensor/examples/credentials.conf \
             /etc/systemd/system/netsensor.service.d/credentials.conf && \
             sed -i 's/^#Load/Load/' /etc/systemd/system/netsensor.service.d/credentials.conf");
        self.has_secret = true;
        self.machine.write(CONFIG, &self.config());
        self.machine.sh("systemctl daemon-reload && systemctl restart netsensor");
        self.check_alert("with a secret");
        let requests = self.collector.requests();
        let sent = requests.last().map(|request| request.header("authorization"));
        assert_eq!(sent, Some("Bearer of webhook-token"));
        let unreadable = format!("runuser -u netsensor -- cat {folder}/webhook-token");
        assert!(!self.machine.attempt(&unreadable).status.success(), "only systemd reads it");
    }

    fn check_broken_configuration(&mut self) {
        let pid = self.main_pid();
        self.machine.write(CONFIG, "[[sink]]\nkind = \"nonsense\"\n");
        self.machine.sh("systemctl reload netsensor");
        let refused = "journalctl -u netsensor | grep -F nonsense";
        self.machine.wait_for("the configuration error, in the journal", refused);
        self.check_alert("with a broken configuration");
        self.machine.write(CONFIG, &self.config());
        // A configuration that other users may write is refused too.
        self.machine.sh(&format!("chmod g+w {CONFIG}"));
        self.machine.sh("systemctl reload netsensor");
        let refused = "journalctl -u netsensor | grep -F 'chmod go-w'";
        self.machine.wait_for("the wrong permissions, in the journal", refused);
        self.machine.sh(&format!("chmod g-w {CONFIG}; systemctl reload netsensor"));
        let is_ok = "systemctl show -P StatusText netsensor | grep -q ^OK";
        self.machine.wait_for("OK with its configuration again", is_ok);
        assert_eq!(self.main_pid(), pid, "a broken configuration stops nothing");
    }

    fn check_watchdog_restart(&mut self) {
        self.machine.write("/etc/systemd/system/netsensor.service.d/watchdog.conf", WATCHDOG);
        self.machine.sh("systemctl daemon-reload && systemctl restart netsensor");
        self.check_alert("with a watchdog of 4 s");
        let pid = self.main_pid();
        let mut stall = Stall::start(self.machine.host_pid(&pid), "pipeline");
        let began = Instant::now();
        while !stall.has_ended() {
            let journal = || self.machine.journal();
            assert!(began.elapsed() < LIMIT, "the watchdog does not end it\n{}", journal());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        println!("a stalled pipeline: ended after {:.1} s", began.elapsed().as_secs_f32());
        self.wait_for_restart(&pid);
        self.machine.sh("journalctl -u netsensor | grep -F 'Watchdog timeout'");
        self.check_alert("restarted by the watchdog");
    }

    fn check_restart_after_kill(&mut self) {
        let pid = self.main_pid();
        self.machine.sh("systemctl kill -s KILL --kill-who=main netsensor");
        self.wait_for_restart(&pid);
        self.check_alert("after kill -9");
    }

    /// Waits until the service runs again, as another process.
    fn wait_for_restart(&self, earlier: &str) {
        let script = format!(
            "test \"$(systemctl is-active netsensor)\" = active && \
             test \"$(systemctl show -P MainPID netsensor)\" != {earlier}"
        );
        self.machine.wait_for("the service again", &script);
    }

    fn agent_id(&self) -> String {
        self.machine.sh("cat /var/lib/netsensor/agent-id")
    }

    fn check_reboot(&mut self) {
        let id = self.agent_id();
        self.accepting.store(false, Ordering::Release);
        let address = self.connect();
        let pending =
            format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
        self.machine.wait_for("an alert that the collector does not accept", &pending);
        self.machine.reboot();
        self.wait_for_restart("0");
        assert_eq!(self.accepted_alerts(address), 0, "the collector accepted nothing");
        self.accepting.store(true, Ordering::Release);
        self.wait_for_alert(address, "delivered after a reboot");
        assert_eq!(self.accepted_alerts(address), 1, "one alert, with one id");
        assert_eq!(self.agent_id(), id);
        self.check_alert("rebooted");
    }
}
