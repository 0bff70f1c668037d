//! A confined agent still pulls, matches and delivers: a feed over HTTP that changes after the
//! confinement, a real connection, a file, and a collector over TLS.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use sensor_tests::{FeedServer, Netns, certificates, run, tls_acceptor, wait_until};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, channel};

use crate::harness::{Home, SOON, skipped};

const INDICATOR: &str = "203.0.113.7";

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_from_a_later_pull_reaches_a_file_and_a_tls_collector() {
    if skipped() {
        return;
    }
    let feed = FeedServer::start().await;
    // The list differs from the first pull: the agent is confined long before it changes.
    feed.serve("", b"198.51.100.200\n");
    let files = certificates();
    let (url, mut bodies) = collector(files.path()).await;
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("alerts.jsonl");
    let home = Home::new(&format!(
        "[[feed]]\nname = \"later\"\nkind = \"list\"\nurl = \"{}\"\ninterval = \"1s\"\n\
         allow_private = true\nquarantine = false\n\
         [[sink]]\nname = \"file\"\nkind = \"file\"\npath = {file:?}\n\
         [[sink]]\nname = \"tls\"\nkind = \"http\"\nurl = \"{url}\"\nca_file = {:?}\n",
        feed.url(),
        files.path().join("ca")
    ));
    let agent = home.run();
    let is_feed_line = |line: &str| line.starts_with("feed ") && line.contains("later");
    home.wait_for_status(|text| text.lines().any(is_feed_line));
    feed.serve("", format!("{INDICATOR}\n").as_bytes());
    let feeds = || std::fs::read(home.path("netsensor/feeds/later.set")).unwrap_or_default();
    wait_until("the second list is loaded", || {
        let set = feeds();
        set.windows(INDICATOR.len()).any(|part| part == INDICATOR.as_bytes())
    });
    connect_in_a_namespace();

    let body = tokio::time::timeout(SOON, bodies.recv()).await.unwrap().unwrap();
    let sent: Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
    let first = if sent.is_array() { &sent[0] } else { &sent };
    assert!(first["IndicatorId"].is_string(), "{body}");
    assert!(body.contains(INDICATOR), "{body}");
    wait_until("the file has the alert", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(INDICATOR))
    });
    let status = home.status();
    assert!(status.starts_with("OK"), "{status}");
    assert!(agent.stop().status.success());
    let left: Vec<_> = std::fs::read_dir(home.path("netsensor")).unwrap().flatten().collect();
    for entry in left {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

/// Makes a real connection to the indicator, in its own namespace.
fn connect_in_a_namespace() {
    let netns = Netns::new(&[INDICATOR]);
    let peer = env!("CARGO_BIN_EXE_peer");
    let mut server = netns.command(peer);
    server.args(["serve", &format!("{INDICATOR}:0")]).stdout(Stdio::piped());
    let mut server = server.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| Some(line.ok()?.strip_prefix("ready ")?.to_owned()));
    run(netns.command(peer).args(["connect", &ready.unwrap(), "1"]));
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Accepts POSTs over TLS; returns the URL and the received bodies.
async fn collector(files: &Path) -> (String, Receiver<String>) {
    let acceptor = tls_acceptor(files);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/alerts", listener.local_addr().unwrap());
    let (sender, bodies) = channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let mut body = vec![0; length.and_then(|it| it.trim().parse().ok()).unwrap_or(0)];
            if stream.read_exact(&mut body).await.is_ok() {
                let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _gone = stream.write_all(response).await.is_err();
                let _gone = stream.shutdown().await.is_err();
                let _closed = sender.send(String::from_utf8_lossy(&body).into_owned()).await;
            }
        }
    });
    (url, bodies)
}
