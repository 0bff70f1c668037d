//! HTTP cases that no real server produces on demand: harmful redirects, many 429 responses,
//! stalled bodies, proxies.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sensor_tests::servers::MockWebServer;
use sensor_tests::{FeedServer, captured_logs};
use sensor_user::base::clock::SystemClock;
use sensor_user::http::{HeaderText, Login, Proxy, Secret};
use sensor_user::intel::{Cursor, Extent, FeedKind, FetchError, Fetcher, Validators};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Puller;

/// A puller with a login and an extra header, both secret.
fn authenticated(url: &str) -> Puller {
    let mut puller = Puller::new(FeedKind::List, url);
    let [password, key] = ["password", "key"].map(|name| {
        let path = puller.folder.path().with_extension(name);
        std::fs::write(&path, format!("{name}-hunter2\n")).unwrap();
        path
    });
    puller.feed.access.headers = vec![
        ("X-Plain".to_owned(), HeaderText::Plain("plain".to_owned())),
        ("Auth-Key".to_owned(), HeaderText::Secret(Secret::File(key))),
    ];
    puller.basic("user", password)
}

const ALL_SECRET: [&str; 3] = ["authorization", "auth-key", "x-plain"];

#[tokio::test]
async fn credentials_are_sent_to_the_own_server_and_not_to_a_redirect_target() {
    let (home, other) = (MockWebServer::start().await, MockWebServer::start().await);
    home.enqueue_response("/list", 302, &[("Location", "/moved")], "");
    home.enqueue_response("/moved", 307, &[("Location", &other.url("/list?x=1"))], "");
    other.set_response("/list", "203.0.113.5\n");
    let puller = authenticated(&home.url("/list"));
    let new = puller.new_from(&Cursor::Start).await;
    assert_eq!((new.extent, new.documents), (Extent::Snapshot, vec!["203.0.113.5\n".to_owned()]));
    let requests = home.take_requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        // "user:password-hunter2" and "key-hunter2".
        assert_eq!(request.headers["authorization"], "Basic dXNlcjpwYXNzd29yZC1odW50ZXIy");
        assert_eq!(request.headers["auth-key"], "key-hunter2");
        assert_eq!(request.headers["x-plain"], "plain");
    }
    let requests = other.take_requests();
    assert_eq!(requests[0].line, "GET /list?x=1");
    for name in ALL_SECRET {
        assert!(!requests[0].headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn the_number_of_redirects_is_limited() {
    let site = MockWebServer::start().await;
    for (target, error_part, requests) in [
        ("/a", "/a, too often", 6),
        ("ftp://h/x", "ftp://h/x, which is not http or https", 1),
        ("http://", "status 302 Found", 1),
    ] {
        site.remove("/a");
        site.enqueue_response("/a", 302, &[("Location", target)], "");
        let error = authenticated(&site.url("/a")).pull_error(&Cursor::Start).await;
        assert!(error.contains(error_part) && !error.contains("hunter2"), "{error}");
        assert_eq!(site.take_requests().len(), requests, "{target}");
    }
}

#[tokio::test]
async fn retry_after_of_a_feed_server_is_honoured() {
    let site = MockWebServer::start().await;
    let puller = Puller::new(FeedKind::List, &site.url("/a"));
    let date = "Tue, 24 Nov 2026 12:00:00 GMT";
    let minutes = Duration::from_mins;
    for (status, headers, wait) in [
        (429, &[("Retry-After", "120")][..], Some(minutes(2))),
        (
            503,
            &[("Retry-After", "Tue, 24 Nov 2026 12:30:00 GMT"), ("Date", date)],
            Some(minutes(30)),
        ),
        (
            503,
            &[("Retry-After", "Tue, 24 Nov 2026 11:00:00 GMT"), ("Date", date)],
            Some(Duration::ZERO),
        ),
        (429, &[("Retry-After", "99999999999")], Some(Duration::from_hours(24))),
        (429, &[("Retry-After", "soon")], None),
        (503, &[], None),
        (500, &[("Retry-After", "120")], None),
    ] {
        site.remove("/a");
        site.enqueue_response("/a", status, headers, "busy");
        let error = puller.pull(&Cursor::Start).await.unwrap_err();
        assert_eq!(error.wait(), wait, "{status} {headers:?}: {error}");
        assert!(error.to_string().contains(&format!("status {status}")), "{error}");
    }
}

#[tokio::test]
async fn a_request_is_retried_once_if_the_connection_closes_before_the_response() {
    let server = FeedServer::start().await;
    server.serve("", b"203.0.113.5\n");
    let puller = Puller::new(FeedKind::List, server.url());
    server.drop_next_requests(1);
    let new = puller.new_from(&Cursor::Start).await;
    assert_eq!((new.documents, server.requests().len()), (vec!["203.0.113.5\n".to_owned()], 2));
    server.drop_next_requests(2);
    let error = puller.pull(&Cursor::Start).await.unwrap_err();
    assert!(matches!(error, FetchError::Request { .. }), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_stalled_body_is_aborted_before_its_time_limit() {
    let server = FeedServer::start().await;
    server.stall_after(b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n203.0.113.5\n");
    let mut puller = Puller::new(FeedKind::List, server.url());
    let stall = Duration::from_millis(200);
    puller.fetcher = Fetcher::new(Arc::new(SystemClock)).with_stall(stall);
    let error = puller.pull(&Cursor::Start).await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled(it) if it == stall), "{error}");
    puller.feed.timeout = Duration::from_millis(150);
    let error = puller.pull(&Cursor::Start).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout(_)), "{error}");
}

/// 200 MiB in 200 KiB: decompression stops at the size limit.
#[tokio::test]
async fn a_decompression_bomb_stops_at_the_size_limit() {
    let mut bomb = Command::new("sh");
    bomb.args(["-c", "head -c 209715200 /dev/zero | tr '\\0' '#' | gzip"]);
    let bomb = tokio::task::spawn_blocking(move || bomb.output().unwrap().stdout).await.unwrap();
    assert!((100_000..1 << 20).contains(&bomb.len()), "{}", bomb.len());
    let site = MockWebServer::start().await;
    site.enqueue_response("/a", 200, &[("Content-Encoding", "gzip")], bomb);
    let mut puller = Puller::new(FeedKind::List, &site.url("/a"));
    puller.feed.max_bytes = 1 << 20;
    let error = puller.pull(&Cursor::Start).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max } if max == 1 << 20), "{error}");
}

/// Over SOCKS 5 (RFC 1928) the proxy receives the host name unresolved.
#[tokio::test]
async fn a_socks_proxy_resolves_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut puller = Puller::new(FeedKind::List, "http://feeds.example:8080/a");
    let url = format!("socks5h://{}", listener.local_addr().unwrap()).parse().unwrap();
    puller.feed.access.proxy = Proxy::Url { url, login: None };
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        let mut wanted = [0; 5 + 13 + 2];
        stream.read_exact(&mut wanted).await.unwrap();
        assert_eq!(&wanted, b"\x05\x01\x00\x03\x0dfeeds.example\x1f\x90");
        stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n203.0.113.5\n";
        stream.write_all(response.as_bytes()).await.unwrap();
        // Until the client closes the connection.
        let _gone = stream.read_to_end(&mut Vec::new()).await.is_err();
    });
    assert_eq!(puller.new_from(&Cursor::Start).await.documents, ["203.0.113.5\n"]);
    drop(puller);
    proxy.await.unwrap();
}

#[tokio::test]
async fn an_etag_is_stored_and_sent() {
    let site = MockWebServer::start().await;
    site.enqueue_response("/a", 200, &[("ETag", "\"1\"")], "203.0.113.5\n");
    site.enqueue_response("/a", 304, &[], "");
    let puller = Puller::new(FeedKind::Stix, &site.url("/a"));
    let new = puller.new_from(&Cursor::Start).await;
    let version = Validators { etag: Some("\"1\"".to_owned()), last_modified: None };
    assert_eq!(new.cursor, Cursor::Version(version));
    assert!(puller.pull(&new.cursor).await.unwrap().is_none());
    assert_eq!(site.take_requests()[1].headers["if-none-match"], "\"1\"");
    // A stored validator that is not a valid header value is omitted.
    let version = Validators { etag: Some("a\nb".to_owned()), last_modified: None };
    let error = puller.pull_error(&Cursor::Version(version)).await;
    assert!(error.contains("status 304"), "{error}");
}

#[tokio::test]
async fn a_proxy_receives_its_own_credentials() {
    let proxy = FeedServer::start().await;
    proxy.serve("", b"203.0.113.5\n");
    let mut puller = authenticated("http://feeds.example/list.txt");
    let secret = puller.folder.path().with_extension("proxy");
    std::fs::write(&secret, "p-hunter2").unwrap();
    puller.feed.access.proxy = Proxy::Url {
        url: proxy.url().parse().unwrap(),
        login: Some(("me".to_owned(), Secret::File(secret))),
    };
    assert_eq!(puller.new_from(&Cursor::Start).await.documents.len(), 1);
    let head = &proxy.requests()[0];
    assert!(head.starts_with("get http://feeds.example/list.txt http/1.1\r\n"), "{head}");
    // "me:p-hunter2", in lower case.
    assert!(head.contains("proxy-authorization: basic bwu6cc1odw50zxiy\r\n"), "{head}");
    assert!(head.contains("auth-key: key-hunter2\r\n"), "{head}");
}

#[tokio::test]
async fn a_readable_secret_is_warned_about_once() {
    let lines = || captured_logs("feed=\"test-warned\"");
    assert!(lines().is_empty());
    let proxy = FeedServer::start().await;
    proxy.serve("", b"203.0.113.5\n");
    let mut puller = authenticated("http://feeds.example/list.txt");
    puller.feed.name = "test-warned".to_owned();
    puller.feed.access.proxy = Proxy::Url { url: proxy.url().parse().unwrap(), login: None };
    let Login::Basic { password: Secret::File(path), .. } = &puller.feed.access.login else {
        panic!("{:?}", puller.feed.access.login)
    };
    std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    for _round in 0..3 {
        puller.new_from(&Cursor::Start).await;
    }
    let warnings = lines();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("secret is readable by all users")
            && warnings[0].contains(".password")
    );
    assert!(warnings[1].contains("use https:"), "{warnings:?}");
    assert!(!warnings.concat().contains("hunter2"), "{warnings:?}");
}

#[tokio::test]
async fn a_missing_secret_is_reported_with_its_path() {
    let site = MockWebServer::start().await;
    site.set_response("/a", "203.0.113.5\n");
    let mut puller = authenticated(&site.url("/a"));
    puller = puller.basic("user", "/nonexistent/secret".into());
    let error = puller.pull_error(&Cursor::Start).await;
    assert!(
        error.contains("/nonexistent/secret: cannot be read by the agent's user: No such file"),
        "{error}"
    );
    assert!(site.take_requests().is_empty());
}
