//! The disk of an old Debian server: made by debootstrap, once, and kept.
//!
//! `~/.cache/orglift/machines/<digest of the recipe>/disk.raw`, and `key` beside it: a recipe that changes makes another
//! disk. Making one that was interrupted goes on where it was. Whoever needs to write to it makes a copy, or drops what
//! is written.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};
use domain::digest::Digest;
use rustix::process::{Signal, geteuid, set_parent_process_death_signal};

const RECIPE: &str = include_str!("recipe.sh");
/// A line of the recipe that says how far it is.
const STEP: &str = "== ";
/// What makes the disk, boots it and logs in, and the packages of Debian that have them. QEMU's two must be of one version.
const PROGRAMS: [(&str, &str); 8] = [
    ("debootstrap", "debootstrap"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("mkswap", "util-linux"),
    ("unshare", "util-linux"),
    ("ssh", "openssh-client"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
];

/// What is on the disk of a server.
#[derive(Debug, Clone)]
pub struct Debian {
    /// `bookworm`.
    pub suite: &'static str,
    /// Beside those that make it boot and let it be logged into.
    pub packages: &'static [&'static str],
    /// A shell script that is run in the server's tree, as often as making it is begun.
    pub setup: &'static str,
}

/// A disk that was made.
#[derive(Debug, Clone)]
pub struct Made {
    pub disk: PathBuf,
    /// Lets log in as root by SSH.
    pub key: PathBuf,
}

impl Debian {
    /// A server that shows on port 80, at `/committed`, the number of the last row that it has committed to PostgreSQL.
    /// Rows have the numbers from 1 on.
    pub const WITH_A_DATABASE: Self = Self {
        suite: "bookworm",
        packages: &["nginx", "postgresql"],
        setup: include_str!("workload.sh"),
    };

    /// Says in one sentence why no such server can be had here, if none can.
    pub fn is_impossible() -> Option<String> {
        if !geteuid().is_root() {
            return Some("a Debian server can only be made and converted by root".into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .collect();
        let missing = |program: &str| !folders.iter().any(|folder| folder.join(program).exists());
        let mut packages: Vec<_> = PROGRAMS
            .iter()
            .filter(|(program, _)| missing(program))
            .map(|(_, package)| *package)
            .collect();
        packages.dedup();
        (!packages.is_empty()).then(|| {
            format!(
                "for a Debian server, programs are missing; install them by: apt-get install {}",
                packages.join(" ")
            )
        })
    }

    /// The disk, made now if it never was. That takes two or three minutes, and the network; two that ask at once get the
    /// same. `tell` hears how far it is. The log of how it was made is beside it.
    pub fn disk(&self, tell: impl Fn(&str)) -> anyhow::Result<Made> {
        let cache = cache()?;
        let folder = cache.join(self.digest().to_string());
        let made = Made {
            disk: folder.join("disk.raw"),
            key: folder.join("key"),
        };
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let lock = folder.with_extension("lock");
        let lock = fs::File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        lock.lock()
            .context("cannot wait for the disk of a Debian server")?;
        if folder.exists() {
            return Ok(made);
        }
        if let Some(reason) = Self::is_impossible() {
            bail!("{reason}");
        }
        let draft = folder.with_extension("draft");
        fs::create_dir_all(&draft).with_context(|| format!("cannot create {}", draft.display()))?;
        self.make(&draft, tell)?;
        fs::rename(&draft, &folder).with_context(|| format!("cannot keep {}", folder.display()))?;
        Ok(made)
    }

    fn digest(&self) -> Digest {
        let what = [RECIPE, self.suite, self.setup, &self.packages.join("\0")];
        Digest::of(what.join("\0").as_bytes())
    }

    fn make(&self, draft: &Path, tell: impl Fn(&str)) -> anyhow::Result<()> {
        let (recipe, setup, log) = (
            draft.join("recipe.sh"),
            draft.join("setup.sh"),
            draft.join("log.txt"),
        );
        fs::write(&recipe, RECIPE)
            .and_then(|()| fs::write(&setup, self.setup))
            .context("cannot write the recipe")?;
        let mut out = fs::File::create(&log).context("cannot open the recipe's log")?;
        let mut bash = Command::new("bash");
        bash.arg(&recipe)
            .args([draft.as_os_str(), self.suite.as_ref(), setup.as_os_str()])
            .args(self.packages)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(out.try_clone().context("cannot share a log")?)
            .process_group(0);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            bash.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = bash.spawn().context("cannot run bash")?;
        let heard = child
            .stdout
            .take()
            .map_or(Ok(()), |said| follow(said, &mut out, tell));
        let status = child.wait().context("cannot wait for bash")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            bail!("the disk of a Debian server could not be made, {status}:\n{last}");
        }
        heard.context("cannot follow how a disk is made")
    }
}

/// Writes what the recipe says to its log, and tells of its steps.
fn follow(said: ChildStdout, log: &mut fs::File, tell: impl Fn(&str)) -> std::io::Result<()> {
    // What a program of Debian says is not always UTF-8.
    for line in BufReader::new(said).split(b'\n') {
        let mut line = line?;
        if let Some(step) = String::from_utf8_lossy(&line).strip_prefix(STEP) {
            tell(step);
        }
        line.push(b'\n');
        log.write_all(&line)?;
    }
    Ok(())
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(&std::env::var_os("HOME").context("no HOME is set")?).join(".cache"),
    };
    Ok(base.join("orglift/machines"))
}
