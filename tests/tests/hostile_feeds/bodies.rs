//! Bodies that are not a feed, or not this feed.

use std::io::Write as _;

use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress};

use super::{TestFeed, address, covers};

/// The size limit of a body, bytes.
const MAX: u64 = 4 << 20;

fn lines(count: u32) -> Vec<u8> {
    let line = |number: u32| format!("{}\n", std::net::Ipv4Addr::from(0xcb00_7100 + number));
    (0..count).map(line).collect::<String>().into_bytes()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// A megabyte of `#` as deflate blocks, which can be repeated.
fn bomb() -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 16);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&vec![b'#'; 1 << 20], &mut out, FlushCompress::Full).unwrap();
    assert_eq!(compress.total_in(), 1 << 20);
    assert!(out.len() < 4096, "{}", out.len());
    out
}

#[tokio::test]
async fn an_invalid_body_changes_nothing_and_the_next_good_one_recovers() {
    let feed =
        TestFeed::of(sensor_user::intel::FeedKind::List, |config| config.max_bytes = MAX).await;
    let mut few = lines(0);
    (1..=8).for_each(|number| few.extend(format!("{}\n", address(number)).bytes()));
    let mut random = fastrand::Rng::with_seed(7);
    let garbage: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
    let packed = gzip(&lines(1000));
    let cases: [(&str, &str, &[u8]); 14] = [
        ("the body is empty", "", b""),
        ("web page", "Content-Type: text/html\r\n", b"<p>Sign in to the network</p>"),
        ("a zip archive", "", b"PK\x03\x04\x14\x00203.0.113.1\n"),
        ("UTF-16 text", "", b"\xff\xfe2\x000\x003\x00"),
        ("ends early, inside its compression", "", packed.split_at(200).0),
        ("web page", "", b"<!doctype html><title>Sign in to the network</title>"),
        ("ended early or is damaged", "Content-Encoding: gzip\r\n", packed.split_at(200).0),
        ("ended early or is damaged", "Content-Encoding: gzip\r\n", &garbage),
        ("more than half is gone at once, 8 of 20", "", &few),
        ("a hundred times as many at once, 2000 after 20", "", &lines(2000)),
        ("entries can be used, line 1: ", "", &garbage),
        ("more than half is gone at once, 0 of 20", "", b"0.0.0.0/0\n::/0\n"),
        ("more than half is gone at once, 0 of 20", "", b"10.0.0.0/8\n192.168.1.1\nfe80::1\n"),
        ("more than half is gone at once, 0 of 20", "", b"# closed for good\n"),
    ];
    let (mut failures, mut quarantined) = (0, 0);
    for (error, headers, body) in cases {
        feed.server.serve(headers, body);
        let report = feed.pull().await;
        feed.assert_refused(&report, error);
        failures += 1;
        assert_eq!(report.failures, failures);
        assert_eq!(report.quarantined, report.reason.contains("quarantined: "), "{error}");
        quarantined += u64::from(report.quarantined);
    }
    assert_eq!((feed.stats.feeds_failed.value(), quarantined), (u64::from(failures), 5));
    assert_eq!(feed.stats.feeds_quarantined.value(), quarantined);
    feed.pull_good().await;
}

#[tokio::test]
async fn the_body_decides_what_it_is() {
    let good = lines(30);
    let marked = [b"\xef\xbb\xbf", good.as_slice()].concat();
    for (headers, body) in [
        ("Content-Type: text/html; charset=UTF-8\r\n", good.clone()),
        ("Content-Type: application/gzip\r\n", gzip(&good)),
        ("", gzip(&marked)),
        ("Content-Type: text/html\r\n", marked),
    ] {
        let feed = TestFeed::of(sensor_user::intel::FeedKind::List, |config| {
            config.list = sensor_user::intel::ListFormat::default();
            config.max_bytes = MAX;
        });
        let feed = feed.await;
        feed.server.serve(headers, &body);
        let report = feed.pull().await;
        assert_eq!((report.reason.as_str(), report.indicators), ("", 30), "{headers}");
    }
    // What a body is once it is decompressed is bounded as well.
    let feed =
        TestFeed::of(sensor_user::intel::FeedKind::List, |config| config.max_bytes = MAX).await;
    feed.server.serve("", &gzip(&b"203.0.113.7\n".repeat(500_000)));
    let report = feed.pull().await;
    feed.assert_refused(&report, &format!("larger than {MAX} bytes after decompression"));
}

#[tokio::test]
async fn an_endless_body_is_refused_at_the_limit() {
    let feed =
        TestFeed::of(sensor_user::intel::FeedKind::List, |config| config.max_bytes = MAX).await;
    let error = format!("the body is larger than {MAX} bytes");
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    feed.server.serve_repeated(head, (b"203.0.113.7\n".repeat(1000).as_slice(), u64::MAX), b"");
    let report = feed.pull().await;
    feed.assert_refused(&report, &error);
    // One line without an end.
    feed.server.serve_repeated(head, (vec![b'1'; 1 << 16].as_slice(), u64::MAX), b"");
    let report = feed.pull().await;
    feed.assert_refused(&report, &error);
    let head = [
        &b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"[..],
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff",
    ];
    feed.server.serve_repeated(&head.concat(), (&bomb(), u64::MAX), b"");
    let report = feed.pull().await;
    feed.assert_refused(&report, &error);
    feed.pull_good().await;
}

#[tokio::test]
async fn without_quarantine_every_body_is_applied() {
    let feed = TestFeed::of(sensor_user::intel::FeedKind::List, |it| it.quarantine = false).await;
    let report = feed.pull_body(lines(2000)).await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 2000));
    assert!(!covers(&feed.intel.set().load(), &address(1)));
    let report = feed.pull_body("203.0.113.9\n").await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 1));
    assert_eq!(feed.stats.feeds_quarantined.value(), 0);
}
