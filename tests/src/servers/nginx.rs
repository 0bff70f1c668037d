//! nginx as a TLS reverse proxy that requires a client certificate.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::{ServerProcess, free_port};
use crate::certificates;

const PROGRAM: &str = "/usr/sbin/nginx";

const CONFIGURATION: &str = "\
daemon off; master_process off; error_log stderr; pid FOLDER/pid;
events {}
http {
    access_log off; client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi; uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
    server {
        listen 127.0.0.1:PORT ssl;
        ssl_certificate FOLDER/server; ssl_certificate_key FOLDER/server.key;
        ssl_client_certificate FOLDER/ca; ssl_verify_client on;
        location / {
            proxy_pass http://UPSTREAM;
            proxy_set_header X-Client $ssl_client_s_dn;
        }
    }
}
";

/// Running nginx reverse proxy.
#[derive(Debug)]
pub struct Nginx {
    folder: TempDir,
    port: u16,
    _process: ServerProcess,
}

impl Nginx {
    /// Starts a proxy for `upstream`. It accepts clients with a certificate of its authority, and
    /// forwards their subject name in `X-Client`. `None` if nginx is not installed.
    pub fn start(upstream: SocketAddr) -> Option<Self> {
        if !Path::new(PROGRAM).is_file() {
            return None;
        }
        let (folder, port) = (certificates(), free_port());
        let configuration = CONFIGURATION
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("PORT", &port.to_string())
            .replace("UPSTREAM", &upstream.to_string());
        std::fs::write(folder.path().join("conf"), configuration).expect("a configuration");
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(folder.path().join("conf"));
        let process = ServerProcess::start(&mut command, &folder.path().join("log"), port);
        Some(Self { folder, port, _process: process })
    }

    /// Port on which it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path of a file of [`mod@certificates`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
