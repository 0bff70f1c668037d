//! podman with a published port, in a namespace of the test. The client is in another one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use sensor_tests::{Netns, skip_unless, wait_until};
use serde_json::Value;

use crate::ends::{self, End};
use crate::lab::{Daemon, Lab, can_run, path};

/// Addresses of podman's host and of the client, one network.
const HOST: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";
const PUBLISHED: u16 = 8080;
/// Port in the container.
const PORT: u16 = 8000;
const REQUESTS: usize = 100;

/// Keeps all state in the lab's folder. A cgroup would need the controllers of the host.
const PODMAN: &str = "podman --root FOLDER/storage --runroot FOLDER/run --tmpdir FOLDER/tmp \
    --network-config-dir FOLDER/networks --storage-driver vfs --cgroup-manager cgroupfs --events-backend file";
const RUN: &str = "run --rm --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
    --pidfile FOLDER/pid --publish 192.0.2.1:8080:8000 localhost/truth sh -c";
/// The first process of a container ends by SIGTERM only if it handles it.
const SERVICE: &str = "trap exit TERM; httpd -f -vv -p 8000 & wait";

/// Starts the container, with an image of busybox alone. podman's mounts end with it.
fn start(lab: &Lab, host: &Netns) -> Daemon {
    let folder = lab.path("podman").display().to_string();
    let image = lab.path("image/bin");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(path("busybox"), image.join("busybox")).unwrap();
    for name in ["sh", "httpd"] {
        std::os::unix::fs::symlink("busybox", image.join(name)).unwrap();
    }
    lab.run("tar", &["-C", "image", "-cf", "image.tar", "."]);
    // crun refuses a host that mounts cgroups of both versions.
    let script = format!(
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup && {PODMAN} import --quiet image.tar localhost/truth \
        && exec {PODMAN} {RUN} '{SERVICE}'"
    );
    let script = script.replace("FOLDER", &folder);
    lab.daemon_in(host, "unshare", &["--mount", "sh", "-c", &script])
}

/// True if the process's network namespace has a listener on the container's port.
fn listens(pid: &str) -> bool {
    let suffix = format!(":{PORT:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
        let is_listener = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1].ends_with(&suffix) && words[3] == "0A"
        };
        sockets.unwrap_or_default().lines().any(is_listener)
    })
}

#[test]
fn a_published_port_is_a_connection_of_the_client_and_one_in_the_container() {
    if !can_run(&["podman", "busybox", "unshare", "tar", "ab"]) {
        return;
    }
    let (host, client) = (Netns::new(&[]), Netns::new(&[]));
    host.link_to(&client, (HOST, CLIENT));
    let lab = Lab::start_in(client, "peer0", [CLIENT, HOST]);
    let podman = start(&lab, &host);
    let pid = || std::fs::read_to_string(lab.path("podman/pid")).unwrap_or_default();
    wait_until("the container serves, or podman exits", || podman.has_exited() || listens(&pid()));
    let log = podman.log();
    let reason = format!("podman runs no container: {}", log.lines().last().unwrap_or_default());
    if skip_unless(!podman.has_exited(), &reason) {
        return;
    }
    let container = std::fs::metadata(format!("/proc/{}/ns/net", pid())).unwrap().ino();
    let url = format!("http://{HOST}:{PUBLISHED}/");
    let requests = REQUESTS.to_string();
    let ab = lab.run("ab", &["-q", "-n", &requests, "-c", "4", &url]);
    let log = podman.stop();
    let own = lab.netns.inode();
    // The container has its own address and port.
    let collect = |lines: &[Value]| -> Vec<End> {
        let mut inside = ends::ends(lines, container);
        for end in &mut inside {
            assert_eq!(end.connection.server.port(), PORT, "{end:?}");
            end.connection.server = SocketAddr::new(HOST.parse().unwrap(), PUBLISHED);
        }
        inside.into_iter().chain(ends::ends(lines, own)).collect()
    };
    let observed = lab.finish_with(collect);

    for end in observed.outbound(PUBLISHED) {
        assert_eq!((end.pid, &end.path), (ab.pid, &path("ab")), "{end:?}");
    }
    let inbound = observed.inbound(PUBLISHED);
    for end in &inbound {
        assert_eq!(end.path, "/bin/busybox", "{end:?}");
    }
    // httpd logs the clients that sent a request.
    let requested = inbound.iter().filter(|end| end.connection.received > 0);
    let clients: BTreeSet<String> =
        requested.map(|end| end.connection.client.to_string()).collect();
    let responses = log.lines().filter_map(|line| line.strip_suffix(": response:404"));
    let logged = responses.map(|client| client.replace("[::ffff:", "").replace(']', ""));
    assert_eq!(clients, logged.collect());
    assert_eq!(clients.len(), REQUESTS);
}
