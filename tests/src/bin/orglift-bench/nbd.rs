//! `nbdcopy --flush` to an `nbdkit` on this machine, in the clear and under TLS.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use lab::network::free_ports;

use crate::machine::{Background, run};

/// A certificate authority and a server of it, `localhost`, under the names that nbdkit and libnbd expect.
#[derive(Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    pub fn make(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let at = |name: &str| dir.join(name).display().to_string();
        let (ca, ca_key) = (at("ca-cert.pem"), at("ca-key.pem"));
        let (server, server_key) = (at("server-cert.pem"), at("server-key.pem"));
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        let authority = ["-subj", "/CN=bench", "-keyout", &ca_key, "-out", &ca];
        run("openssl", new.iter().chain(&authority))?;
        let localhost = [
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ];
        let signed = [
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-keyout",
            &server_key,
            "-out",
            &server,
        ];
        run("openssl", new.iter().chain(&localhost).chain(&signed))?;
        Ok(Self(dir))
    }
}

/// Copies `source` to a new, sparse image of `bytes`, durably. Returns the seconds of `nbdcopy` alone.
pub fn copy(source: &Path, image: &Path, bytes: u64, tls: Option<&Certificates>) -> anyhow::Result<f64> {
    File::create_new(image)?.set_len(bytes)?;
    let [port] = free_ports()?;
    let mut server = vec![
        "--foreground".into(),
        "--ipaddr=127.0.0.1".into(),
        format!("--port={port}"),
    ];
    let target = match tls {
        None => format!("nbd://localhost:{port}"),
        Some(Certificates(dir)) => {
            let dir = dir.display();
            server.extend(["--tls=require".into(), format!("--tls-certificates={dir}")]);
            format!("nbds://localhost:{port}?tls-certificates={dir}")
        }
    };
    server.extend(["file".into(), image.display().to_string()]);
    let _server = Background::server(port, "nbdkit", server)?;
    let began = Instant::now();
    run(
        "nbdcopy",
        ["--flush".as_ref(), source.as_os_str(), target.as_ref()],
    )?;
    Ok(began.elapsed().as_secs_f64())
}
