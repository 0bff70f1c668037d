//! Bodies that are no feed as a whole, or not this one.

use std::io::Write as _;

use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress};

use super::{Harm, address, covers};

/// The limit of a body here, bytes.
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

/// A megabyte of `#` as deflate, which may be repeated for ever.
fn bomb() -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 16);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&vec![b'#'; 1 << 20], &mut out, FlushCompress::Full).unwrap();
    assert_eq!(compress.total_in(), 1 << 20);
    assert!(out.len() < 4096, "{}", out.len());
    out
}

#[tokio::test]
async fn a_body_that_is_no_feed_changes_nothing_and_the_next_good_one_heals() {
    let harm = Harm::of(sensor_user::intel::FeedKind::List, |config| config.max_bytes = MAX).await;
    let mut few = lines(0);
    (1..=8).for_each(|number| few.extend(format!("{}\n", address(number)).bytes()));
    let mut random = fastrand::Rng::with_seed(7);
    let garbage: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
    let packed = gzip(&lines(1000));
    let cases: [(&str, &str, &[u8]); 11] = [
        ("the body is empty", "", b""),
        ("web page", "Content-Type: text/html\r\n", b"198.51.100.1\n"),
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
    for (told, headers, body) in cases {
        harm.server.serve(headers, body);
        let report = harm.pull().await;
        harm.assert_refused(&report, told);
        failures += 1;
        assert_eq!(report.failures, failures);
        assert_eq!(report.quarantined, report.reason.contains("quarantined: "), "{told}");
        quarantined += u64::from(report.quarantined);
    }
    assert_eq!((harm.stats.feeds_failed.value(), quarantined), (u64::from(failures), 5));
    assert_eq!(harm.stats.feeds_quarantined.value(), quarantined);
    harm.pull_good().await;
}

#[tokio::test]
async fn a_body_without_end_is_left_at_the_limit() {
    let harm = Harm::of(sensor_user::intel::FeedKind::List, |config| config.max_bytes = MAX).await;
    let told = format!("the body is larger than {MAX} bytes");
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    harm.server.serve_repeated(head, (b"203.0.113.7\n".repeat(1000).as_slice(), u64::MAX), b"");
    let report = harm.pull().await;
    harm.assert_refused(&report, &told);
    // One line without end.
    harm.server.serve_repeated(head, (vec![b'1'; 1 << 16].as_slice(), u64::MAX), b"");
    let report = harm.pull().await;
    harm.assert_refused(&report, &told);
    let head = [
        &b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"[..],
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff",
    ];
    harm.server.serve_repeated(&head.concat(), (&bomb(), u64::MAX), b"");
    let report = harm.pull().await;
    harm.assert_refused(&report, &told);
    harm.pull_good().await;
}

#[tokio::test]
async fn who_does_not_want_quarantine_gets_what_there_is() {
    let harm = Harm::of(sensor_user::intel::FeedKind::List, |it| it.quarantine = false).await;
    let report = harm.pull_body(lines(2000)).await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 2000));
    assert!(!covers(&harm.intel.set().load(), &address(1)));
    let report = harm.pull_body("203.0.113.9\n").await;
    assert_eq!((report.reason.as_str(), report.indicators), ("", 1));
    assert_eq!(harm.stats.feeds_quarantined.value(), 0);
}
