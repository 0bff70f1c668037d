//! The life of the service, from its installation to its purge.

mod end;
mod metrics;

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

/// One address of the example's network for each alert: a second one to the same would be counted, and
/// not told.
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
/// What the unit grants: `CAP_NET_ADMIN`, `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH`, `CAP_PERFMON`,
/// `CAP_BPF`.
const GRANTED: u64 = 1 << 12 | 1 << 19 | 1 << 2 | 1 << 38 | 1 << 39;
const CAP_BPF: u64 = 1 << 39;
/// The service sees a stall within this time; 30 s as shipped.
const WATCHDOG: &str = "[Service]\nWatchdogSec=4s\n";
/// An alert arrives within this time, however busy the host is.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn the_service_lives_through_what_an_operator_does_to_it() {
    let Some(package) = package() else { return };
    let mut life = Life::begin(&package);
    life.is_installed();
    life.is_confined();
    life.files_are_private();
    life.reloads();
    life.sends_a_secret_that_systemd_hands_over();
    life.tells_its_metrics_to_a_group();
    life.keeps_its_configuration_when_the_new_one_is_broken();
    life.is_restarted_when_its_pipeline_stalls();
    life.comes_back_after_a_kill();
    life.loses_no_alert_over_a_reboot();
    life.is_upgraded(&package);
    life.is_purged();
}

struct Life {
    machine: Machine,
    collector: Collector,
    /// Whether the collector takes what it gets.
    takes: Arc<AtomicBool>,
    /// Whether the collector is sent a secret.
    has_secret: bool,
    /// Addresses that were connected to.
    used: usize,
}

impl Life {
    fn begin(package: &Path) -> Self {
        let machine = Machine::boot(Netns::new(&ADDRESSES), package);
        let takes = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&takes);
        let answer = move |_: usize, _: &_| {
            if asked.load(Ordering::Acquire) {
                ScriptedResponse::OK
            } else {
                ScriptedResponse::status(503)
            }
        };
        let collector = machine.netns.inside(|| Collector::start(answer));
        Self { machine, collector, takes, has_secret: false, used: 0 }
    }

    /// The package's configuration, with the collector.
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

    /// Connects to an address that was not connected to yet; nobody listens there.
    fn connect(&mut self) -> &'static str {
        let address = *ADDRESSES.get(self.used).expect("an address that is left");
        self.used += 1;
        let script = format!("exec 3<>/dev/tcp/{address}/443");
        let refused = self.machine.attempt(&format!("bash -c '{script}'"));
        assert!(!refused.status.success(), "somebody listens at {address}");
        address
    }

    /// A real connection, and its alert at the collector, once.
    fn alerts(&mut self, when: &str) {
        let address = self.connect();
        self.arrives(address, when);
    }

    fn arrives(&self, address: &str, when: &str) {
        let deadline = Instant::now() + LIMIT;
        while self.taken(address) == 0 {
            let said = || self.machine.journal();
            if Instant::now() >= deadline {
                let bodies = self.collector.requests().into_iter().map(|request| request.body);
                let about: Vec<String> = bodies.filter(|body| body.contains(address)).collect();
                panic!("{when}: no alert for {address}, but {about:?}\n{}", said());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        println!("{when}: the alert for {address} is at the collector");
    }

    /// How many different alerts for an address the collector has taken.
    fn taken(&self, address: &str) -> usize {
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

    fn is_installed(&mut self) {
        let verify = "systemd-analyze verify /lib/systemd/system/netsensor.service 2>&1";
        let install = "apt-get install -y /srv/netsensor.deb </dev/null";
        self.machine.sh(install);
        assert_eq!(self.machine.sh("systemctl is-active netsensor").trim(), "active");
        assert_eq!(self.machine.sh("systemctl is-enabled netsensor").trim(), "enabled");
        let said = self.machine.attempt(verify);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        // There are no man pages without man.
        let about_unit = said.lines().filter(|line| !line.contains("man ")).collect::<String>();
        assert_eq!(about_unit, "", "systemd-analyze verify");
        let status = self.machine.sh("systemctl show -P StatusText netsensor");
        assert!(status.starts_with("OK"), "{status}");
        self.machine.sh("test -s /usr/share/man/man1/netsensor-status.1.gz");
        // With the configuration of the package, and without a question.
        let address = self.connect();
        let alert =
            format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
        self.machine.wait_for("the first alert, in the file", &alert);
        let line =
            format!("journalctl -u netsensor | grep -F 'ALERT outbound bash' | grep -F {address}");
        self.machine.wait_for("the first alert, in the journal", &line);
        let screen = self.machine.sh("netsensor status");
        println!("installed:\n{screen}");
        let off = self.machine.sh("journalctl -u netsensor | grep -F 'probes off' || true");
        println!("what cannot be attached inside: {}", off.trim());
    }

    fn is_confined(&self) {
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
                assert_eq!(held & !GRANTED, 0, "{words} has what the unit does not grant");
            }
            if pid == main {
                // Since Linux 5.19 its own maps can be read without.
                assert_eq!(permitted & !CAP_BPF, 0, "the agent gives up all else");
                assert_eq!(set("CapAmb:") | set("CapInh:"), 0, "and passes nothing on");
            }
        }
    }

    fn files_are_private(&self) {
        let open = "find /var/lib/netsensor /run/netsensor \\( -type f -o -type s \\) -perm /077";
        assert_eq!(self.machine.sh(open), "", "files and sockets that others may touch");
        assert_eq!(self.machine.sh("stat -c '%a %U' /var/lib/netsensor").trim(), "700 netsensor");
    }

    fn reloads(&mut self) {
        self.machine.write(CONFIG, &self.config());
        let pid = self.main_pid();
        self.machine.sh("systemctl reload netsensor");
        let asked = "systemctl show -P StatusText netsensor | grep -q ^OK";
        self.machine.wait_for("OK after the reload", asked);
        self.alerts("reloaded");
        assert_eq!(self.main_pid(), pid, "a reload is no restart");
    }

    /// As the shipped example of a drop-in says.
    fn sends_a_secret_that_systemd_hands_over(&mut self) {
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
        self.alerts("with a secret");
        let requests = self.collector.requests();
        let sent = requests.last().map(|request| request.header("authorization"));
        assert_eq!(sent, Some("Bearer of webhook-token"));
        let unreadable = format!("runuser -u netsensor -- cat {folder}/webhook-token");
        assert!(!self.machine.attempt(&unreadable).status.success(), "only systemd reads it");
    }

    fn keeps_its_configuration_when_the_new_one_is_broken(&mut self) {
        let pid = self.main_pid();
        self.machine.write(CONFIG, "[[sink]]\nkind = \"nonsense\"\n");
        self.machine.sh("systemctl reload netsensor");
        let refused = "journalctl -u netsensor | grep -F nonsense";
        self.machine.wait_for("what is wrong with the configuration, in the journal", refused);
        self.alerts("with a broken configuration");
        self.machine.write(CONFIG, &self.config());
        // Neither is one that others may write.
        self.machine.sh(&format!("chmod g+w {CONFIG}"));
        self.machine.sh("systemctl reload netsensor");
        let refused = "journalctl -u netsensor | grep -F 'chmod go-w'";
        self.machine.wait_for("who may write the configuration, in the journal", refused);
        self.machine.sh(&format!("chmod g-w {CONFIG}; systemctl reload netsensor"));
        let asked = "systemctl show -P StatusText netsensor | grep -q ^OK";
        self.machine.wait_for("OK with its configuration again", asked);
        assert_eq!(self.main_pid(), pid, "a broken configuration stops nothing");
    }

    fn is_restarted_when_its_pipeline_stalls(&mut self) {
        self.machine.write("/etc/systemd/system/netsensor.service.d/watchdog.conf", WATCHDOG);
        self.machine.sh("systemctl daemon-reload && systemctl restart netsensor");
        self.alerts("with a watchdog of 4 s");
        let pid = self.main_pid();
        let mut stall = Stall::begin(self.machine.host_pid(&pid), "pipeline");
        let began = Instant::now();
        while !stall.is_over() {
            let said = || self.machine.journal();
            assert!(began.elapsed() < LIMIT, "the watchdog does not end it\n{}", said());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        println!("a stalled pipeline: ended after {:.1} s", began.elapsed().as_secs_f32());
        self.is_back(&pid);
        self.machine.sh("journalctl -u netsensor | grep -F 'Watchdog timeout'");
        self.alerts("restarted by the watchdog");
    }

    fn comes_back_after_a_kill(&mut self) {
        let pid = self.main_pid();
        self.machine.sh("systemctl kill -s KILL --kill-who=main netsensor");
        self.is_back(&pid);
        self.alerts("after kill -9");
    }

    /// Waits until the service runs again, as another process.
    fn is_back(&self, earlier: &str) {
        let script = format!(
            "test \"$(systemctl is-active netsensor)\" = active && \
             test \"$(systemctl show -P MainPID netsensor)\" != {earlier}"
        );
        self.machine.wait_for("the service again", &script);
    }

    fn agent_id(&self) -> String {
        self.machine.sh("cat /var/lib/netsensor/agent-id")
    }

    fn loses_no_alert_over_a_reboot(&mut self) {
        let id = self.agent_id();
        self.takes.store(false, Ordering::Release);
        let address = self.connect();
        let waits =
            format!("grep -F '\"MatchedIp\":\"{address}\"' /var/lib/netsensor/alerts.jsonl");
        self.machine.wait_for("an alert that the collector does not take", &waits);
        self.machine.reboot();
        self.is_back("0");
        assert_eq!(self.taken(address), 0, "the collector took nothing");
        self.takes.store(true, Ordering::Release);
        self.arrives(address, "waited over a reboot");
        assert_eq!(self.taken(address), 1, "one alert, with one id");
        assert_eq!(self.agent_id(), id);
        self.alerts("rebooted");
    }
}
