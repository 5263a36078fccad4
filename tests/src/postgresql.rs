//! A server of PostgreSQL, as Debian installs it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::shell::sh;

/// A cluster of databases. Its programs run as its own user, and its clients come by a socket among its files.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    settings: &'static str,
}

impl Cluster {
    /// Where Debian keeps the newest.
    pub fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut found: Vec<_> = versions
            .flatten()
            .map(|version| version.path().join("bin"))
            .collect();
        found.retain(|programs| programs.join("pg_amcheck").exists());
        found.sort();
        found.pop()
    }

    /// A new one, which trusts everybody on this machine. `settings` are those of the server's command line.
    pub fn make(programs: &Path, folder: &Path, port: u16, settings: &'static str) -> Result<Self, String> {
        let cluster = Self::at(programs, folder, port, settings);
        let data = cluster.data.display();
        sh(&format!("mkdir {data} && chown postgres {data}"))?;
        cluster.program(
            "initdb",
            "--auth=trust --no-locale --encoding=UTF8 --wal-segsize=1 --no-instructions",
        )?;
        Ok(cluster)
    }

    /// One that was copied while it ran, on another machine.
    pub fn found(programs: &Path, folder: &Path, port: u16, settings: &'static str) -> Result<Self, String> {
        let cluster = Self::at(programs, folder, port, settings);
        // It names a process of the machine that it was copied from, which happens to be this one.
        fs::remove_file(cluster.data.join("postmaster.pid")).map_err(|error| error.to_string())?;
        Ok(cluster)
    }

    fn at(programs: &Path, folder: &Path, port: u16, settings: &'static str) -> Self {
        Self {
            programs: programs.to_owned(),
            data: folder.join("cluster"),
            port,
            settings,
        }
    }

    /// Its files, and its socket.
    pub fn folder(&self) -> &Path {
        &self.data
    }

    pub fn start(&self) -> Result<(), String> {
        let settings = format!(
            "-c port={} -c listen_addresses= -c unix_socket_directories={} {}",
            self.port,
            self.data.display(),
            self.settings
        );
        let log = self.data.join("server.log");
        self.program(
            "pg_ctl",
            &format!(
                "--wait --timeout=60 --log={} --options=\"{settings}\" start",
                log.display()
            ),
        )
        .map(drop)
        .map_err(|said| format!("{said}\n{}", fs::read_to_string(log).unwrap_or_default()))
    }

    /// As if its machine had lost its power.
    pub fn stop(&self) -> Result<(), String> {
        self.program("pg_ctl", "--mode=immediate --wait --timeout=20 stop")
            .map(drop)
    }

    /// What runs a program as a client, on the cluster's own socket.
    pub fn line(&self, program: &str, args: &str) -> String {
        let (program, data) = (self.programs.join(program), self.data.display());
        format!(
            "setpriv --reuid=postgres --regid=postgres --clear-groups {} --host={data} --port={} {args}",
            program.display(),
            self.port
        )
    }

    /// Runs a statement as the administrator of the cluster.
    pub fn administer(&self, statement: &str) -> Result<String, String> {
        let args = format!("--quiet --no-align --tuples-only --no-psqlrc -c \"{statement}\" postgres");
        sh(&format!("cd / && {}", self.line("psql", &args)))
    }

    fn program(&self, program: &str, args: &str) -> Result<String, String> {
        let (program, data) = (self.programs.join(program), self.data.display());
        // What it starts must not keep our pipes open.
        sh(&format!(
            "cd / && setpriv --reuid=postgres --regid=postgres --clear-groups {} --pgdata={data} {args} >/dev/null </dev/null",
            program.display()
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _stopped = self.stop();
    }
}
