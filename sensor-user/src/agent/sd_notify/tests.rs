//! A real socket in the place of the manager's.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::Notifier;
use crate::agent::watchdog::{Beat, Keeper};
use crate::base::environment::Environment;

fn environment(socket: impl Into<OsString>) -> Environment {
    Environment {
        notify_socket: Some(socket.into()),
        watchdog_usec: Some("90000".into()),
        watchdog_pid: Some(std::process::id().to_string().into()),
        ..Environment::default()
    }
}

fn heard(manager: &UnixDatagram) -> Vec<String> {
    manager.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(length) = manager.recv(&mut bytes) {
        all.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
    }
    all
}

#[test]
fn messages_reach_a_path_and_an_abstract_name_in_the_words_of_the_manual() {
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
        let heard = heard(&manager);
        assert_eq!(heard[0], "READY=1\nSTATUS=OK");
        assert_eq!(heard[1].lines().count(), 1, "a line feed in a status begins no assignment");
        assert_eq!(heard[2], "WATCHDOG=1");
        assert!(heard[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", heard[3]);
        assert!(heard[4].starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\n"), "{}", heard[4]);
    }
}

#[test]
fn who_is_not_asked_and_who_cannot_reach_anybody_goes_on() {
    Notifier::new(&Environment::default()).ready("OK");
    let nobody = Notifier::new(&environment("/nonexistent/notify"));
    nobody.ready("OK");
    assert_eq!(nobody.watchdog(), None);
    let mut other = environment("/nonexistent/notify");
    assert_eq!(other.watchdog(), Some(Duration::from_millis(90)));
    other.watchdog_pid = Some("1".into());
    assert_eq!(other.watchdog(), None, "another process is meant");
    other.watchdog_pid = None;
    for (text, limit) in [("30000000", Some(Duration::from_secs(30))), ("0", None), ("x", None)] {
        other.watchdog_usec = Some(text.into());
        assert_eq!(other.watchdog(), limit, "{text}");
    }
}

#[test]
fn a_manager_that_does_not_read_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let notifier = Notifier::new(&environment(path));
    for _ in 0..100_000 {
        notifier.alive();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_stands_still_gives_no_sign_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let (notifier, beat) = (Arc::new(Notifier::new(&environment(path))), Beat::default());
    let keeper = Keeper::new(notifier, beat.clone(), || "OK".to_owned());
    let kept = tokio::spawn(keeper.keep());
    let pass = async |turns: bool| {
        for _ in 0..10 {
            if turns {
                beat.turn();
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        heard(&manager)
    };
    assert_eq!(pass(false).await, ["STATUS=OK"], "it has not turned yet");
    let moving = pass(true).await;
    assert!(moving.len() >= 9 && moving.iter().all(|text| text == "WATCHDOG=1"), "{moving:?}");
    let at_most = pass(false).await;
    assert!(at_most.len() <= 1, "{at_most:?}");
    assert_eq!(pass(false).await, Vec::<String>::new());
    assert!(!pass(true).await.is_empty(), "it moves again");
    kept.abort();
}
