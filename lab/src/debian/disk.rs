//! An old Debian server to migrate: its disk is made by debootstrap, once, and kept.
//!
//! `~/.cache/orglift/machines/<digest of the recipe>/disk.raw`: a recipe that changes makes another disk. Whoever needs
//! to write to it makes a copy, or drops what is written.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use domain::digest::Digest;
use rustix::process::{Signal, geteuid, set_parent_process_death_signal};

const RECIPE: &str = include_str!("debian/recipe.sh");
/// What it runs, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("debootstrap", "debootstrap"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("mkswap", "util-linux"),
    ("unshare", "util-linux"),
];

/// What is on the disk of a server.
#[derive(Debug, Clone)]
pub struct Debian {
    /// `bookworm`.
    pub suite: &'static str,
    /// Beside those that make it boot and let it be logged into.
    pub packages: &'static [&'static str],
}

impl Debian {
    /// Says in one sentence why no disk can be made here, if none can.
    pub fn is_impossible() -> Option<String> {
        if !geteuid().is_root() {
            return Some("the disk of a Debian server is made by root".into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .collect();
        let missing = |program: &str| !folders.iter().any(|folder| folder.join(program).exists());
        let package = PROGRAMS.iter().find(|(program, _)| missing(program))?.1;
        Some(format!(
            "the disk of a Debian server cannot be made; install the Debian package {package}"
        ))
    }

    /// The disk, made now if it never was. That takes one or two minutes, and the network; two that ask at once get the
    /// same. The log of how it was made is beside it.
    pub fn disk(&self) -> anyhow::Result<PathBuf> {
        let cache = cache()?;
        let made = cache.join(self.digest().to_string());
        let disk = made.join("disk.raw");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let lock = made.with_extension("lock");
        let lock = fs::File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        lock.lock()
            .context("cannot wait for the disk of a Debian server")?;
        if disk.exists() {
            return Ok(disk);
        }
        if let Some(reason) = Self::is_impossible() {
            bail!("{reason}");
        }
        let draft = made.with_extension("draft");
        if draft.exists() {
            fs::remove_dir_all(&draft).with_context(|| format!("cannot clear {}", draft.display()))?;
        }
        fs::create_dir(&draft).with_context(|| format!("cannot create {}", draft.display()))?;
        self.make(&draft)?;
        fs::rename(&draft, &made).with_context(|| format!("cannot keep {}", made.display()))?;
        Ok(disk)
    }

    fn digest(&self) -> Digest {
        Digest::of(format!("{RECIPE}\0{}\0{}", self.suite, self.packages.join("\0")).as_bytes())
    }

    fn make(&self, draft: &Path) -> anyhow::Result<()> {
        let (recipe, log) = (draft.join("recipe.sh"), draft.join("log.txt"));
        fs::write(&recipe, RECIPE).context("cannot write the recipe")?;
        let out = fs::File::create(&log).context("cannot open the recipe's log")?;
        let mut bash = Command::new("bash");
        bash.arg(&recipe)
            .arg(draft.join("disk.raw"))
            .arg(self.suite)
            .args(self.packages)
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone().context("cannot share a log")?)
            .stderr(out)
            .process_group(0);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            bash.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let status = bash.status().context("cannot run bash")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            bail!("the disk of a Debian server could not be made, {status}:\n{last}");
        }
        Ok(())
    }
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(&std::env::var_os("HOME").context("no HOME is set")?).join(".cache"),
    };
    Ok(base.join("orglift/machines"))
}
