//! A `/sys`, `/proc` and `/dev` in a folder, shaped as the kernel shapes them.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::Roots;

pub struct FakeTree {
    folder: tempfile::TempDir,
}

impl FakeTree {
    pub fn new() -> Self {
        let tree = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for dir in [
            "sys/block",
            "sys/class/block",
            "sys/dev/block",
            "proc/self",
            "dev",
        ] {
            fs::create_dir_all(tree.at(dir)).unwrap();
        }
        tree
    }

    pub fn roots(&self) -> Roots {
        Roots {
            sys: self.at("sys"),
            proc: self.at("proc"),
            dev: self.at("dev"),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn disk(&self, name: &str, sectors: u64, number: &str) -> &Self {
        let folder = format!("sys/devices/pci0/0000:00:04.0/{name}-bus/block/{name}");
        self.put(&format!("{folder}/size"), &sectors.to_string());
        self.put(&format!("{folder}/removable"), "0");
        self.put(&format!("{folder}/queue/iostats"), "1");
        self.put(&format!("{folder}/stat"), "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0");
        self.put(&format!("{folder}/inflight"), "       0        0");
        symlink(self.at(&folder), self.at(&format!("sys/block/{name}"))).unwrap();
        self.register(&folder, name, number)
    }

    pub fn partition(&self, disk: &str, name: &str, number: &str) -> &Self {
        let folder = format!("sys/devices/pci0/0000:00:04.0/{disk}-bus/block/{disk}/{name}");
        self.put(&format!("{folder}/partition"), "1");
        self.register(&folder, name, number)
    }

    /// A device of the device mapper on top of others.
    pub fn mapped(&self, name: &str, number: &str, lower: &[&str]) -> &Self {
        let folder = format!("sys/devices/virtual/block/{name}");
        fs::create_dir_all(self.at(&format!("{folder}/slaves"))).unwrap();
        self.put(&format!("{folder}/size"), "2048");
        for lower in lower {
            let target = fs::canonicalize(self.at(&format!("sys/class/block/{lower}"))).unwrap();
            symlink(target, self.at(&format!("{folder}/slaves/{lower}"))).unwrap();
        }
        symlink(self.at(&folder), self.at(&format!("sys/block/{name}"))).unwrap();
        self.register(&folder, name, number)
    }

    fn register(&self, folder: &str, name: &str, number: &str) -> &Self {
        symlink(self.at(folder), self.at(&format!("sys/class/block/{name}"))).unwrap();
        symlink(self.at(folder), self.at(&format!("sys/dev/block/{number}"))).unwrap();
        self
    }

    /// Sets an attribute in a disk's folder.
    pub fn attribute(&self, disk: &str, name: &str, value: &str) -> &Self {
        let folder = format!("sys/devices/pci0/0000:00:04.0/{disk}-bus/block/{disk}");
        self.put(&format!("{folder}/{name}"), value);
        self
    }

    pub fn mounts(&self, mountinfo: &str) -> &Self {
        self.put("proc/self/mountinfo", mountinfo);
        self
    }

    pub fn remove(&self, disk: &str) {
        fs::remove_file(self.at(&format!("sys/block/{disk}"))).unwrap();
    }

    /// A loop device that shows `file` from `offset` on.
    pub fn looped(&self, name: &str, number: &str, file: &str, offset: u64) -> &Self {
        let folder = format!("sys/devices/virtual/block/{name}");
        self.put(&format!("{folder}/size"), "2048")
            .put(&format!("{folder}/loop/backing_file"), file)
            .put(&format!("{folder}/loop/offset"), &offset.to_string())
            .register(&folder, name, number)
    }

    /// Any file, for what only one test needs.
    pub fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    /// Any link, such as those of `/proc`, which lead nowhere.
    pub fn link(&self, target: &str, path: &str) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }
}
