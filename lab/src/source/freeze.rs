//! How an agent's freeze hook reaches the workload: by two files in one folder.
//!
//! ```text
//! hook freeze:  creates `wanted` ─▶ waits for `frozen` (2 s) ─▶ succeeds, or fails
//! hook thaw:    removes `wanted`
//! workload:     sees `wanted` ─▶ creates `frozen` ─▶ stands still until `wanted` is gone ─▶ removes `frozen`
//! ```

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

#[derive(Debug, Clone)]
pub struct Freeze {
    wanted: PathBuf,
    frozen: PathBuf,
}

impl Freeze {
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            wanted: folder.join("wanted"),
            frozen: folder.join("frozen"),
        }
    }

    /// Puts the hook where the agent looks for it.
    pub fn install_hook(&self, hooks: &Path) -> anyhow::Result<()> {
        let write = || -> io::Result<()> {
            fs::create_dir_all(hooks)?;
            if let Some(folder) = self.wanted.parent() {
                fs::create_dir_all(folder)?;
            }
            let hook = hooks.join("50-workload");
            fs::write(&hook, self.script())?;
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))
        };
        write().with_context(|| format!("cannot install a freeze hook in {}", hooks.display()))
    }

    fn script(&self) -> String {
        format!(
            "#!/bin/sh\n\
             wanted={wanted}\n\
             frozen={frozen}\n\
             case $1 in\n\
             freeze)\n\
             \x20   : >\"$wanted\" || exit 1\n\
             \x20   tries=0\n\
             \x20   until [ -e \"$frozen\" ]; do\n\
             \x20       tries=$((tries + 1))\n\
             \x20       [ \"$tries\" -lt 100 ] || {{ rm -f \"$wanted\"; exit 1; }}\n\
             \x20       sleep 0.02\n\
             \x20   done ;;\n\
             thaw) rm -f \"$wanted\" ;;\n\
             esac\n",
            wanted = quoted(&self.wanted),
            frozen = quoted(&self.frozen),
        )
    }

    /// A workload that does not run is as good as frozen.
    pub fn mark_stopped(&self) -> anyhow::Result<()> {
        fs::write(&self.frozen, "").context("cannot mark a workload as stopped")
    }

    /// A workload starts anew, whatever the last one left.
    pub fn reset(&self) -> anyhow::Result<()> {
        self.lift()
            .and_then(|()| self.withdraw())
            .context("cannot mark a workload as running")
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.exists()
    }

    pub(super) fn confirm(&self) -> io::Result<()> {
        fs::write(&self.frozen, "")
    }

    pub(super) fn lift(&self) -> io::Result<()> {
        remove(&self.frozen)
    }

    /// Nobody lifted the freeze in time: the application goes on.
    pub(super) fn withdraw(&self) -> io::Result<()> {
        remove(&self.wanted)
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
