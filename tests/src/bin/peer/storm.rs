//! Storms of connections and processes: as many as possible in a short time.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::Outcome;

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
