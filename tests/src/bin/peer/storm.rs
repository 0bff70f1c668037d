//! Storms of connections and processes: as many as possible in a short time.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use tokio::time::Instant;

use crate::Outcome;

/// Maximum duration of [`steady`].
const STEADY_SECONDS: u32 = 7200;

/// Connects to a closed port, `count` times or for `seconds`. Prints the number of attempts.
pub(crate) fn refused(address: &str, count: &str, seconds: &str) -> Outcome {
    let (address, count): (SocketAddr, u64) = (address.parse()?, count.parse()?);
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut refused = 0;
    while refused < count && (refused % 1024 != 0 || Instant::now() < end) {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => refused += 1,
            other => return Err(format!("after {refused}: {other:?}").into()),
        }
    }
    println!("{refused}");
    Ok(())
}

/// Makes `rate` loopback connections a second, until standard input ends, for two hours at most.
pub(crate) fn steady(rate: &str) -> Outcome {
    let rate: u32 = rate.parse()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    println!("ready {address}");
    let (start, interval) = (Instant::now(), Duration::from_secs(1) / rate.max(1));
    for number in 0..rate.saturating_mul(STEADY_SECONDS) {
        let mut stream = TcpStream::connect(address)?;
        stream.read_to_end(&mut Vec::new())?;
        let next = start + interval * number;
        let wait = next.saturating_duration_since(Instant::now()).as_millis();
        let stdin = std::io::stdin();
        let mut ended = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, u16::try_from(wait)?)? > 0 {
            break;
        }
    }
    Ok(())
}

/// Runs `program once TARGET NUMBER` `count` times, with up to two processes at a time.
pub(crate) fn processes(program: &str, target: &str, count: &str) -> Outcome {
    let mut before = None;
    for number in 0..count.parse::<u32>()? {
        let words = ["once", target, &number.to_string()];
        let child = Command::new(program).args(words).stdin(Stdio::null()).spawn()?;
        if let Some(mut before) = before.replace(child) {
            let status = before.wait()?;
            if !status.success() {
                return Err(format!("before number {number}: {status}").into());
            }
        }
    }
    before.map_or(Ok(()), |mut last| last.wait().map(drop))?;
    Ok(())
}

/// Tries to connect, then prints its process id, parent, start time in clock ticks, and `number`.
pub(crate) fn once(target: &str, number: &str) -> Outcome {
    let _refused = TcpStream::connect(target);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, tail) = stat.rsplit_once(')').ok_or("stat without a name")?;
    let ticks = tail.split_ascii_whitespace().nth(19).ok_or("stat without a start")?;
    let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
    println!("{pid} {parent} {ticks} {number}");
    Ok(())
}
