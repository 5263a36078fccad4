//! A loop device over a file, where the tests may make one.

use std::{path::Path, path::PathBuf, process::Command};

pub struct LoopDevice {
    pub path: PathBuf,
}

impl LoopDevice {
    /// `None` without the right or the means.
    pub fn attach(file: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Self {
            path: path.trim().into(),
        })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        assert!(
            detached.is_ok_and(|status| status.success()),
            "{} stays",
            self.path.display()
        );
    }
}
