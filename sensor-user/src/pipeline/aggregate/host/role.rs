//! The role of a process: what it serves, where that is sure.

/// The role of an executable of that name which listens on those ports: of a known server on a port
/// that is registered (or usual) for its service; else "".
pub(super) fn role(executable: &str, ports: &[u16]) -> &'static str {
    let known = KNOWN.iter().find(|known| {
        known.names.contains(&executable) && ports.iter().any(|port| known.ports.contains(port))
    });
    known.map_or("", |known| known.role)
}

struct Known {
    role: &'static str,
    names: &'static [&'static str],
    ports: &'static [u16],
}

const KNOWN: [Known; 8] = [
    Known {
        role: "webserver",
        names: &["nginx", "apache2", "httpd", "lighttpd", "caddy", "hitch", "varnishd", "haproxy"],
        ports: &[80, 443, 8080, 8443],
    },
    Known { role: "appServer", names: &["uwsgi", "gunicorn"], ports: &[8000, 8080, 3031] },
    Known { role: "databaseServer", names: &["postgres"], ports: &[5432] },
    Known { role: "databaseServer", names: &["mysqld", "mariadbd"], ports: &[3306] },
    Known { role: "databaseServer", names: &["mongod", "mongos"], ports: &[27017] },
    Known { role: "databaseServer", names: &["sqlservr", "tnslsnr"], ports: &[1433, 1521] },
    Known { role: "ldapServer", names: &["slapd", "ns-slapd"], ports: &[389, 636] },
    Known { role: "smbServer", names: &["smbd"], ports: &[139, 445] },
];

#[cfg(test)]
mod tests {
    use super::role;

    #[test]
    fn a_role_takes_a_known_server_on_a_port_of_its_service() {
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
