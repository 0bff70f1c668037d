//! Hostile HTTP clients: the agent continues, and other clients receive their page.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Home, free_port, hit, page_at, send, skipped, value, wait_for};

#[test]
fn slow_and_malformed_requests_block_no_other_client() {
    if skipped() {
        return;
    }
    let port = free_port();
    let home = Home::new(&format!("127.0.0.1:{port}"), "");
    let agent = home.run();
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream
    };
    // Many clients that never finish their request.
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect();
            let _gone = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
            stream
        })
        .collect();
    let began = now();
    let (head, body) = page_at(port, "text/plain");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(value(&body, "netsensor_metrics_clients_evicted_total").unwrap() >= 80.0, "{body}");
    // The remaining slow clients are disconnected too.
    let last = slow.last_mut().unwrap();
    let _reset = last.read_to_end(&mut Vec::new());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());

    // Oversized, malformed and unknown requests.
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let mut stream = connect();
    let _closed = stream.write_all(long.as_bytes());
    let mut response = Vec::new();
    let _reset = stream.read_to_end(&mut response);
    assert!(!response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert!(!send(connect(), &many).0.starts_with("HTTP/1.1 200"));
    assert!(!send(connect(), "\u{1}\u{2}\u{3}\r\n\r\n").0.starts_with("HTTP/1.1 200"));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
    ] {
        let (head, body) = send(connect(), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        assert!(!body.contains("root:"), "{body}");
    }
    // The pipeline from the kernel to an alert continues.
    hit();
    wait_for("an alert", || {
        let (_, page) = page_at(port, "text/plain");
        (value(&page, "netsensor_alerts_raised_total") == Some(1.0)).then_some(())
    });
    assert!(agent.stop().status.success());
}

#[expect(clippy::disallowed_methods, reason = "the test measures the client's wait")]
fn now() -> Instant {
    Instant::now()
}
