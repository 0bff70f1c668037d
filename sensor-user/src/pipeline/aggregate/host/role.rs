//! Role of a process: the service that it provides, if that is certain.

/// Role of an executable that listens on `ports`: that of a known server on a registered (or usual)
/// port of its service; else "".
pub(super) fn role(executable: &str, ports: &[u16]) -> &'static str {
    let known = KNOWN_SERVERS.iter().find(|known| {
        known.names.contains(&executable) && ports.iter().any(|port| known.ports.contains(port))
    });
    known.map_or("", |known| known.role)
}

struct KnownServer {
    role: &'static str,
    names: &'static [&'static str],
    ports: &'static [u16],
}

const KNOWN_SERVERS: [KnownServer; 8] = [
    KnownServer {
        role: "webserver",
        names: &["nginx", "apache2", "httpd", "lighttpd", "caddy", "hitch", "varnishd", "haproxy"],
        ports: &[80, 443, 8080, 8443],
    },
    KnownServer { role: "appServer", names: &["uwsgi", "gunicorn"], ports: &[8000, 8080, 3031] },
    KnownServer { role: "databaseServer", names: &["postgres"], ports: &[5432] },
    KnownServer { role: "databaseServer", names: &["mysqld", "mariadbd"], ports: &[3306] },
    KnownServer { role: "databaseServer", names: &["mongod", "mongos"], ports: &[27017] },
    KnownServer { role: "databaseServer", names: &["sqlservr", "tnslsnr"], ports: &[1433, 1521] },
    KnownServer { role: "ldapServer", names: &["slapd", "ns-slapd"], ports: &[389, 636] },
    KnownServer { role: "smbServer", names: &["smbd"], ports: &[139, 445] },
];

#[cfg(test)]
mod tests {
    use super::role;

    #[test]
    fn a_role_requires_a_known_server_on_a_port_of_its_service() {
        for (executable, ports, expected) in [
            ("nginx", &[8443_u16, 22][..], "webserver"),
            ("nginx", &[9000], ""),
            ("postgres", &[5432], "databaseServer"),
            ("postgres", &[80], ""),
            ("python3", &[80, 443], ""),
            ("slapd", &[636], "ldapServer"),
            ("smbd", &[445], "smbServer"),
            ("", &[], ""),
        ] {
            assert_eq!(role(executable, ports), expected, "{executable}");
        }
    }
}
