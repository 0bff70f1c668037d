//! Tests with a real socket instead of the manager's.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::Notifier;
use crate::agent::watchdog::{Heartbeat, Watchdog};
use crate::base::environment::Environment;

fn environment(socket: impl Into<OsString>) -> Environment {
    Environment {
        notify_socket: Some(socket.into()),
        watchdog_usec: Some("90000".into()),
        watchdog_pid: Some(std::process::id().to_string().into()),
        ..Environment::default()
    }
}

fn received(manager: &UnixDatagram) -> Vec<String> {
    manager.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(length) = manager.recv(&mut bytes) {
        all.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
    }
    all
}

#[test]
fn messages_follow_sd_notify_over_a_path_and_an_abstract_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let name = format!("netsensor-test-{}-{:x}", std::process::id(), fastrand::u64(..));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let managers = [
        (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
    ];
    for (manager, socket) in managers {
        let notifier = Notifier::new(&environment(socket));
        notifier.ready("OK");
        notifier.status("DEGRADED: a feed\nREADY=1");
        notifier.alive();
        notifier.reloading();
        notifier.stopping(Duration::from_secs(7));
        let received = received(&manager);
        assert_eq!(received[0], "READY=1\nSTATUS=OK");
        assert_eq!(received[1].lines().count(), 1, "a line feed in a status begins no assignment");
        assert_eq!(received[2], "WATCHDOG=1");
        assert!(received[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", received[3]);
        assert!(
            received[4].starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\n"),
            "{}",
            received[4]
        );
    }
}

#[test]
fn a_missing_or_unreachable_socket_is_no_error() {
    Notifier::new(&Environment::default()).ready("OK");
    let unreachable = Notifier::new(&environment("/nonexistent/notify"));
    unreachable.ready("OK");
    assert_eq!(unreachable.watchdog(), None);
    let mut other = environment("/nonexistent/notify");
    assert_eq!(other.watchdog(), Some(Duration::from_millis(90)));
    other.watchdog_pid = Some("1".into());
    assert_eq!(other.watchdog(), None, "meant for another process");
    other.watchdog_pid = None;
    for (text, limit) in [("30000000", Some(Duration::from_secs(30))), ("0", None), ("x", None)] {
        other.watchdog_usec = Some(text.into());
        assert_eq!(other.watchdog(), limit, "{text}");
    }
}

#[test]
fn a_manager_that_does_not_read_never_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let notifier = Notifier::new(&environment(path));
    for _ in 0..100_000 {
        notifier.alive();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_pipeline_sends_no_keep_alive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let (notifier, heartbeat) = (Arc::new(Notifier::new(&environment(path))), Heartbeat::default());
    let watchdog = Watchdog::new(notifier, heartbeat.clone(), || "OK".to_owned());
    let task = tokio::spawn(watchdog.run());
    let pass = async |advances: bool| {
        for _ in 0..10 {
            if advances {
                heartbeat.advance();
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        received(&manager)
    };
    assert_eq!(pass(false).await, ["STATUS=OK"], "no iteration yet");
    let moving = pass(true).await;
    assert!(moving.len() >= 9 && moving.iter().all(|text| text == "WATCHDOG=1"), "{moving:?}");
    let stalled = pass(false).await;
    assert!(stalled.len() <= 1, "{stalled:?}");
    assert_eq!(pass(false).await, Vec::<String>::new());
    assert!(!pass(true).await.is_empty(), "it advances again");
    task.abort();
}
