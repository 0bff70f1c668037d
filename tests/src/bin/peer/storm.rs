//! As many connections or processes as fit into a moment.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::Done;

/// Connects to a port where nobody listens, `count` times or for `seconds`; says how often.
pub(crate) fn refused(address: &str, count: &str, seconds: &str) -> Done {
    let (address, count): (SocketAddr, u64) = (address.parse()?, count.parse()?);
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut done = 0;
    while done < count && (done % 1024 != 0 || Instant::now() < end) {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => done += 1,
            other => return Err(format!("after {done}: {other:?}").into()),
        }
    }
    println!("{done}");
    Ok(())
}

/// Runs `program once TARGET NUMBER`, `count` times, two at a time.
pub(crate) fn processes(program: &str, target: &str, count: &str) -> Done {
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

/// Connects, whatever comes of it, says who it was, when it began and which number it was given.
pub(crate) fn once(target: &str, number: &str) -> Done {
    let _refused = TcpStream::connect(target);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, tail) = stat.rsplit_once(')').ok_or("stat without a name")?;
    let ticks = tail.split_ascii_whitespace().nth(19).ok_or("stat without a start")?;
    let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
    println!("{pid} {parent} {ticks} {number}");
    Ok(())
}
