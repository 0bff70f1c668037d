//! redis under its own benchmark.

use crate::ends::End;
use crate::lab::{Lab, SERVER, path};

const PORT: u16 = 6379;

/// A counter of `INFO`.
fn counter(info: &str, name: &str) -> u64 {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {info}")).trim().parse().unwrap()
}

#[test]
fn the_counters_of_redis_are_the_sums_of_its_connections() {
    let Some(lab) = Lab::start(&["redis-server", "redis-cli", "redis-benchmark"]) else { return };
    let port = PORT.to_string();
    let words = ["--bind", SERVER, "--port", &port, "--save", "", "--protected-mode", "no"];
    let redis = lab.listening("redis-server", &words, &format!("{SERVER}:{PORT}"));
    let client = ["-h", SERVER, "-p", &port];
    let words = ["-q", "-c", "20", "-n", "2000", "-d", "1000", "-P", "4", "-t", "set,get,lpush"];
    let benchmark = lab.run("redis-benchmark", &[&client[..], &words].concat());
    let cli = lab.run("redis-cli", &[&client[..], &["INFO"]].concat());
    let info = &cli.stdout;
    let pid = redis.pid();
    drop(redis);
    let observed = lab.finish();

    let servers = observed.inbound(PORT);
    for end in &servers {
        assert_eq!((end.pid, &end.path), (pid, &path("redis-server")), "{end:?}");
    }
    let clients = observed.outbound(PORT);
    let (last, others): (Vec<&End>, Vec<&End>) =
        clients.into_iter().partition(|end| end.pid == cli.pid);
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(others.iter().all(|end| end.pid == benchmark.pid), "{others:?}");

    assert_eq!(counter(info, "total_connections_received"), servers.len() as u64);
    let received: u64 = servers.iter().map(|end| end.connection.received).sum();
    assert_eq!(counter(info, "total_net_input_bytes"), received);
    // The counters in the response do not contain the response itself.
    let sent: u64 = others.iter().map(|end| end.connection.received).sum();
    assert_eq!(counter(info, "total_net_output_bytes"), sent);
}
