//! A corner of the machine for one test: mounts that nobody else sees, disks in memory, file systems on them.
//!
//! A test that fails or is killed leaves nothing: the mounts belong to a namespace that ends with its last process,
//! and a loop device detaches itself when nobody has it open any more.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};

pub use tests::shell::sh;

/// Nothing on a test's disks comes near it.
const MEMORY: &str = "size=3g";
/// A freeze takes a second at most, and writing out before it another.
const GUARD_LETS_GO: Duration = Duration::from_secs(5);

/// A folder in memory, and mounts of our own.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// `None`, and why on one line, where the machine does not let a test do this. Where `CI=true`, that is a failure.
    pub fn new(programs: &[&str]) -> Option<Self> {
        let missing = programs.iter().find(|program| !is_installed(program));
        let why = match missing {
            Some(program) => format!("{program} is not installed"),
            None if !rustix::process::geteuid().is_root() => "only root attaches disks".into(),
            None => match Self::with_own_mounts() {
                Ok(place) => return Some(place),
                Err(error) => error.to_string(),
            },
        };
        eprintln!("cannot run here: disks in use: {why}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        None
    }

    fn with_own_mounts() -> anyhow::Result<Self> {
        // SAFETY: no file descriptors are unshared, only mounts: of this thread and all that it starts.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        let folder = tempfile::tempdir()?;
        sh(&format!(
            "mount -t tmpfs -o {MEMORY} tmpfs {0} && losetup --find",
            folder.path().display()
        ))
        .map_err(anyhow::Error::msg)?;
        Ok(Self { folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A disk of zeros.
    pub fn disk(&self, name: &str, bytes: u64) -> Disk {
        let image = self.path(name);
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        Disk::over(&image)
    }

    /// A disk with a file system, mounted.
    pub fn mounted(&self, name: &str, bytes: u64, make: &str) -> (Disk, Mounted) {
        let disk = self.disk(name, bytes);
        run(&format!("{make} {}", disk.path.display()));
        let mounted =
            Mounted::try_at(&self.path(&format!("{name}.mounted")), &disk.path, "defaults").unwrap();
        (disk, mounted)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is still in use there keeps its memory until it ends.
        let _unmounted = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

/// A loop device, for as long as this exists or somebody uses it.
pub struct Disk {
    pub path: PathBuf,
    _open: fs::File,
}

impl Disk {
    pub fn over(image: &Path) -> Self {
        let path: PathBuf = run(&format!("losetup --find --show {}", image.display())).into();
        let open = fs::File::open(&path).unwrap();
        // While it is open: from now on, its last user takes it along.
        run(&format!("losetup --detach {}", path.display()));
        Self { path, _open: open }
    }
}

/// A file system in use.
pub struct Mounted {
    pub dir: PathBuf,
}

impl Mounted {
    /// Whatever `mount` takes for a device.
    pub fn try_at(dir: &Path, device: &Path, options: &str) -> Result<Self, String> {
        fs::create_dir_all(dir).unwrap();
        sh(&format!(
            "mount -o {options} {} {}",
            device.display(),
            dir.display()
        ))?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nobody can unmount what is frozen. What is not frozen cannot be thawed, which is as well.
        let _thawed = sh(&format!("fsfreeze --unfreeze {}", self.dir.display()));
        // While a checkpoint is taken, the agent's guard has a file open on it. If it were only detached then, it
        // would be written once more afterwards, and differ from that checkpoint.
        let deadline = Instant::now() + GUARD_LETS_GO;
        while unmount(&self.dir, UnmountFlags::empty()) == Err(Errno::BUSY) {
            if Instant::now() > deadline {
                let _gone_later = unmount(&self.dir, UnmountFlags::DETACH);
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn is_installed(program: &str) -> bool {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    folders
        .iter()
        .any(|folder| Path::new(folder).join(program).exists())
}

/// What a command line of the shell prints; the test fails if it does.
#[track_caller]
pub fn run(line: &str) -> String {
    sh(line).unwrap_or_else(|said| panic!("{line}: {said}"))
}
