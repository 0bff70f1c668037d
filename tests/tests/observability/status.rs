//! One screen of `netsensor status`.

use crate::harness::{Home, hit, skipped, wait_for};

#[test]
fn a_healthy_agent_fits_one_screen() {
    if skipped() {
        return;
    }
    let home = Home::new("unix:HOME/metrics.sock", "");
    let agent = home.run();
    hit();
    let screen = wait_for("an agent that is well, and its canary", || {
        let output = home.command(&["status"]).output().unwrap();
        let screen = String::from_utf8(output.stdout).unwrap();
        let fits = ["\ncanary    seen ", " 1 alerts, ", "1 hosts and 0 networks"];
        let is_well = output.status.success() && fits.iter().all(|part| screen.contains(part));
        is_well.then_some(screen)
    });
    assert!(screen.starts_with("OK "), "{screen}");
    assert!(screen.lines().count() <= 24, "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    for part in ["\nledger    ", ": closes\n", "\nlost      nothing\n", "\nfeed      OK test: "] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    println!("{screen}");
    assert!(agent.stop().status.success());
    let output = home.command(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
