//! Two hours of traffic of two hosts, row by row.

use std::path::Path;

use sensor_user::schema::parquet::TableFile;
use sensor_user::schema::{BoundPortRow, ComputerRow, ConnectionRow, ProcessRow, Table};

/// Writes the files; returns the names of the tables.
pub(crate) fn write(folder: &Path) -> Vec<&'static str> {
    write_table(folder, &ConnectionRow::TABLE, &connections());
    write_table(folder, &BoundPortRow::TABLE, &bound_ports());
    write_table(folder, &ComputerRow::TABLE, &computers());
    write_table(folder, &ProcessRow::TABLE, &processes());
    vec![
        ConnectionRow::TABLE.name,
        BoundPortRow::TABLE.name,
        ComputerRow::TABLE.name,
        ProcessRow::TABLE.name,
    ]
}

fn write_table(folder: &Path, table: &Table, rows: &[impl serde::Serialize]) {
    let mut file = TableFile::new(table).unwrap();
    let lines: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
    assert_eq!(file.append(&lines).unwrap(), 0);
    let path = folder.join(format!("{}-20261124T100000.000Z.parquet", table.name));
    std::fs::write(path, file.finish().unwrap()).unwrap();
}

/// A row of `process` at a time of 2026-11-24, with a remote address and port.
fn row(
    computer: &str,
    time: &str,
    (process, direction): (&str, &str),
    (remote, port): (&str, u16),
) -> ConnectionRow {
    let own = "10.0.0.4";
    let (source, destination) = if direction == "inbound" { (remote, own) } else { (own, remote) };
    ConnectionRow {
        time_generated: format!("2026-11-24T{time}:00Z").parse().unwrap(),
        computer: format!("{computer}.example.net"),
        machine: format!("m-{computer}"),
        process: format!("p-{process}"),
        process_name: process.to_owned(),
        process_path: format!("/usr/bin/{process}"),
        user_name: if process == "curl" { "root" } else { process }.to_owned(),
        direction: direction.to_owned(),
        protocol: if port == 53 { "udp" } else { "tcp" }.to_owned(),
        source_ip: source.to_owned(),
        destination_ip: destination.to_owned(),
        remote_ip: remote.to_owned(),
        destination_port: port,
        r#type: ConnectionRow::TABLE.name.to_owned(),
        ..ConnectionRow::default()
    }
}

/// Sets links established, terminated, failed, live; and bytes sent and received.
fn with(row: ConnectionRow, links: [u64; 4], (sent, received): (u64, u64)) -> ConnectionRow {
    let [links_established, links_terminated, links_failed, links_live] = links;
    ConnectionRow {
        links_established,
        links_terminated,
        links_failed,
        links_live,
        bytes_sent: sent,
        bytes_received: received,
        ..row
    }
}

fn responses(
    row: ConnectionRow,
    (count, sum): (u64, u64),
    (min, max): (u64, u64),
) -> ConnectionRow {
    ConnectionRow {
        responses: Some(count),
        response_time_sum: Some(sum),
        response_time_min: Some(min),
        response_time_max: Some(max),
        ..row
    }
}

fn malicious(
    row: ConnectionRow,
    threat: &str,
    (severity, confidence): (i32, &str),
    country: &str,
) -> ConnectionRow {
    ConnectionRow {
        malicious_ip: row.remote_ip.clone(),
        indicator_threat_type: threat.to_owned(),
        severity: Some(severity),
        confidence: confidence.to_owned(),
        remote_country: country.to_owned(),
        remote_latitude: Some(if country == "France" { 46.5 } else { 51.5 }),
        remote_longitude: Some(if country == "France" { 2.5 } else { 10.5 }),
        ..row
    }
}

fn connections() -> Vec<ConnectionRow> {
    let (curl, nginx) = (("curl", "outbound"), ("nginx", "inbound"));
    let bad = |row| {
        let row = malicious(row, "C2", (4, "80"), "Germany");
        ConnectionRow { remote_dns_questions: r#"["evil.example"]"#.to_owned(), ..row }
    };
    let first = row("web01", "10:00", curl, ("203.0.113.7", 443));
    let first = bad(with(first, [2, 1, 0, 1], (100, 1000)));
    let second = row("web01", "10:01", curl, ("203.0.113.7", 443));
    let second = bad(with(second, [0, 1, 0, 0], (50, 500)));
    let named = row("web01", "11:00", curl, ("198.51.100.9", 80));
    let named = ConnectionRow {
        remote_dns_questions: r#"["b.example","a.example"]"#.to_owned(),
        rtt_min_us: Some(20_000),
        rtt_max_us: Some(30_500),
        ..with(named, [1, 1, 3, 0], (10, 20))
    };
    let client = row("web01", "10:00", nginx, ("192.0.2.50", 443));
    let closed = row("web01", "11:00", nginx, ("192.0.2.50", 443));
    let other = row("web01", "11:00", nginx, ("192.0.2.51", 443));
    let query = row("db01", "10:30", ("postgres", "inbound"), ("10.0.0.5", 5432));
    let query = with(query, [1, 0, 0, 1], (900, 90));
    let names = row("db01", "11:30", ("dnsmasq", "outbound"), ("192.0.2.53", 53));
    let bot = row("db01", "11:45", ("xmrig", "outbound"), ("203.0.113.66", 6667));
    let bot = malicious(with(bot, [0, 0, 2, 0], (0, 0)), "Botnet", (5, ""), "France");
    vec![
        responses(first, (2, 40), (10, 30)),
        second,
        responses(named, (1, 200), (200, 200)),
        with(client, [5, 4, 0, 1], (5000, 300)),
        with(closed, [0, 1, 0, 0], (0, 0)),
        with(other, [1, 0, 0, 1], (7, 3)),
        ConnectionRow { rtt_min_us: Some(150), rtt_max_us: Some(300), ..query },
        with(names, [1, 1, 0, 0], (60, 120)),
        bot,
    ]
}

/// A bound port of `process` on a computer, at a time of 2026-11-24.
fn port(
    computer: &str,
    time: &str,
    process: &str,
    (ip, port, is_wildcard_bind): (&str, u16, Option<bool>),
) -> BoundPortRow {
    BoundPortRow {
        time_generated: format!("2026-11-24T{time}:00Z").parse().unwrap(),
        computer: format!("{computer}.example.net"),
        machine: format!("m-{computer}"),
        process: format!("p-{process}"),
        process_name: process.to_owned(),
        ip: ip.to_owned(),
        port,
        protocol: if is_wildcard_bind.is_some() { "tcp" } else { "udp" }.to_owned(),
        is_wildcard_bind,
        ..BoundPortRow::default()
    }
}

/// Sets links established, terminated, live; and bytes sent and received.
fn used(row: BoundPortRow, links: [u64; 3], (sent, received): (u64, u64)) -> BoundPortRow {
    let [links_established, links_terminated, links_live] = links;
    BoundPortRow {
        links_established,
        links_terminated,
        links_live,
        bytes_sent: sent,
        bytes_received: received,
        ..row
    }
}

fn bound_ports() -> Vec<BoundPortRow> {
    let https = ("10.0.0.4", 443, Some(true));
    let ssh = ("0.0.0.0", 22, Some(true));
    let local = port("web01", "10:00", "redis", ("127.0.0.1", 6379, Some(false)));
    let database = port("db01", "10:30", "postgres", ("10.0.0.4", 5432, Some(false)));
    let names = port("db01", "10:30", "dnsmasq", ("0.0.0.0", 53, None));
    vec![
        used(port("web01", "10:00", "nginx", https), [5, 4, 1], (5000, 300)),
        used(port("web01", "11:00", "nginx", https), [1, 1, 1], (7, 3)),
        port("web01", "10:00", "sshd", ssh),
        port("web01", "11:00", "sshd", ssh),
        used(local, [2, 2, 0], (40, 20)),
        used(database, [1, 0, 1], (900, 90)),
        used(names, [1, 1, 0], (60, 30)),
        port("db01", "10:30", "dnsmasq", ("0.0.0.0", 53, Some(true))),
    ]
}

fn computers() -> Vec<ComputerRow> {
    let computer = |name: &str, time: &str, address: &str| ComputerRow {
        time_generated: format!("2026-11-24T{time}:00Z").parse().unwrap(),
        computer: format!("{name}.example.net"),
        machine: format!("m-{name}"),
        operating_system_full_name: "Debian GNU/Linux 13".to_owned(),
        physical_memory_mb: Some(2048),
        boot_time: Some("2026-11-01T00:00:00Z".parse().unwrap()),
        ipv4_addresses: vec!["127.0.0.1".to_owned(), address.to_owned()],
        ..ComputerRow::default()
    };
    vec![
        computer("web01", "11:00", "10.0.0.7"),
        computer("web01", "10:00", "10.0.0.4"),
        ComputerRow { boot_time: None, ..computer("db01", "10:00", "10.0.0.5") },
    ]
}

fn processes() -> Vec<ProcessRow> {
    let process = |time: &str, name: &str, arguments: &str| ProcessRow {
        time_generated: format!("2026-11-24T{time}:00Z").parse().unwrap(),
        computer: "db01.example.net".to_owned(),
        machine: "m-db01".to_owned(),
        process: format!("p-{name}"),
        executable_path: format!("/usr/bin/{name}"),
        command_line: format!("{name} {arguments}"),
        user_name: name.to_owned(),
        start_time: Some("2026-11-01T00:00:09Z".parse().unwrap()),
        ..ProcessRow::default()
    };
    vec![
        process("10:00", "postgres", "-D /var/lib/PostgreSQL"),
        process("11:00", "postgres", "-D /srv/PostgreSQL"),
        process("11:00", "dnsmasq", "-k"),
    ]
}
