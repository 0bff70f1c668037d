//! The output of `netsensor status`.

use crate::harness::{Home, hit, skipped, wait_for};

#[test]
fn a_healthy_agent_fits_one_screen() {
    if skipped() {
        return;
    }
    let home = Home::new("unix:HOME/metrics.sock", "");
    let agent = home.run();
    hit();
    let output = wait_for("a healthy agent, and its canary", || {
        let output = home.command(&["status"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let fits = ["\ncanary    seen ", " 1 alerts, ", "1 hosts and 0 networks"];
        let is_healthy = output.status.success() && fits.iter().all(|part| text.contains(part));
        is_healthy.then_some(text)
    });
    assert!(output.starts_with("OK "), "{output}");
    assert!(output.lines().count() <= 24, "{output}");
    assert!(output.lines().all(|line| line.chars().count() <= 80), "{output}");
    for part in ["\nledger    ", ": closes\n", "\nlost      nothing\n", "\nfeed      OK test: "] {
        assert!(output.contains(part), "{part}: {output}");
    }
    println!("{output}");
    assert!(agent.stop().status.success());
    let output = home.command(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
