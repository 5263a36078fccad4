//! Programs, loop devices and file systems of the machine; each is gone when its value is.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Runs a program to its end; a failure carries what it said.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed, {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Leaves nothing to be written that the next measurement would have to wait for.
pub fn settle() {
    rustix::fs::sync();
}

/// A program in the background, killed at the end.
#[derive(Debug)]
pub struct Background(pub Child);

impl Background {
    /// A server that listens on this port of 127.0.0.1 once this returns. It must end with its configuration, not detach.
    pub fn server<A: AsRef<OsStr>>(
        port: u16,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let mut server = Self::start(program, args)?;
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = server.0.try_wait()? {
                bail!("{program} ended, {status}");
            }
            if began.elapsed() > Duration::from_secs(10) {
                bail!("{program} does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub fn start<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Ok(Self(child.with_context(|| format!("cannot run {program}"))?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has ended, or ends now; there is nobody left to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A block device over an image file.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    pub fn over(image: &Path) -> anyhow::Result<Self> {
        let args = ["--find".as_ref(), "--show".as_ref(), image.as_os_str()];
        let path = run("losetup", args)?.trim().into();
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drops what the kernel has of the device itself in memory; its image stays there.
    pub fn forget_cache(&self) -> anyhow::Result<()> {
        run("blockdev", ["--flushbufs".as_ref(), self.path.as_os_str()]).map(drop)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", ["--detach".as_ref(), self.path.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    pub fn new(args: &[&OsStr], path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        run("mount", args.iter().copied().chain([path.as_os_str()]))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A frozen one would keep whoever touches it for ever.
        let _thawed = thaw(&self.path);
        if let Err(error) = run("umount", ["--lazy".as_ref(), self.path.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}

/// Fails if the file system is not frozen.
pub fn thaw(mountpoint: &Path) -> anyhow::Result<()> {
    run("fsfreeze", ["--unfreeze".as_ref(), mountpoint.as_os_str()]).map(drop)
}
