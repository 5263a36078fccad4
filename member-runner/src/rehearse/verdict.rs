//! Whether a machine came up, decided from what it says.
//!
//! The words are those of SeaBIOS, OVMF, GRUB, the kernel, initramfs-tools, dracut, systemd and agetty, over the versions
//! that servers run. Whoever controls the machine can say them all: a rehearsal protects its owner from a surprise,
//! and nobody from a forgery.

use serde::{Deserialize, Serialize};

/// What is known of a machine at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub console: &'a str,
    /// Whether the operator's probe is answered; `None` if none was set.
    pub probed: Option<bool>,
    /// The machine has switched itself off.
    pub has_ended: bool,
    /// By now every firmware has given its name, whatever is on the disk.
    pub firmware_is_late: bool,
    pub time_is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    CameUp(Sign),
    Failed(Failure),
}

/// By what one sees that a machine came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    Probe,
    LoginPrompt,
    SystemdTarget,
    SystemdFinished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    NoBootableDevice,
    BootLoader,
    KernelPanic,
    /// The initramfs has not found the root file system, or could not mount it.
    NoRoot,
    /// The initramfs gave up for another reason, and offers a shell.
    InitramfsShell,
    /// The root is mounted; systemd has stopped at something that it needs, such as a file system of fstab.
    EmergencyMode,
    /// The machine has switched itself off.
    Ended,
    /// Not even the firmware has spoken, which says nothing of the disk.
    Silent,
    TimeLimit,
}

/// Words that end a boot, in the order in which they are looked for: the cause before what follows from it, such as a
/// panic or an emergency shell.
const FAILURES: [(&str, Failure); 20] = [
    ("No bootable device", Failure::NoBootableDevice),
    (
        "No bootable option or device was found",
        Failure::NoBootableDevice,
    ),
    ("UEFI Interactive Shell", Failure::NoBootableDevice),
    ("grub rescue>", Failure::BootLoader),
    ("Minimal BASH-like line editing is supported", Failure::BootLoader),
    ("VFS: Unable to mount root fs", Failure::NoRoot),
    ("Kernel panic - not syncing", Failure::KernelPanic),
    // initramfs-tools.
    ("Gave up waiting for root", Failure::NoRoot),
    ("does not exist.  Dropping to a shell!", Failure::NoRoot),
    ("No root device specified", Failure::NoRoot),
    ("Target filesystem doesn't have requested", Failure::NoRoot),
    ("(initramfs) ", Failure::InitramfsShell),
    // dracut.
    ("Warning: Could not boot.", Failure::NoRoot),
    ("Failed to mount /sysroot", Failure::NoRoot),
    ("/run/initramfs/rdsosreport.txt", Failure::InitramfsShell),
    ("Entering emergency mode. Exit the shell", Failure::InitramfsShell),
    // systemd.
    ("You are in emergency mode", Failure::EmergencyMode),
    ("Welcome to emergency mode", Failure::EmergencyMode),
    ("Give root password for maintenance", Failure::EmergencyMode),
    (
        "Cannot open access to console, the root account is locked",
        Failure::EmergencyMode,
    ),
];

/// As systemd named them before version 248, and names them since.
const TARGETS: [&str; 4] = [
    "multi-user.target",
    "graphical.target",
    "Multi-User System",
    "Graphical Interface",
];

/// `None` while nothing is decided. A probe decides alone that the machine came up, but not that it failed.
pub fn judge(scene: &Scene<'_>) -> Option<Verdict> {
    if scene.probed == Some(true) {
        return Some(Verdict::CameUp(Sign::Probe));
    }
    let failed = FAILURES.iter().find(|(words, _)| scene.console.contains(words));
    if let Some((_, failure)) = failed {
        return Some(Verdict::Failed(*failure));
    }
    if scene.probed.is_none()
        && let Some(sign) = sign(scene.console)
    {
        return Some(Verdict::CameUp(sign));
    }
    match scene {
        Scene {
            console: "",
            firmware_is_late: true,
            ..
        } => Some(Verdict::Failed(Failure::Silent)),
        Scene { has_ended: true, .. } => Some(Verdict::Failed(Failure::Ended)),
        Scene {
            time_is_over: true, ..
        } => Some(Verdict::Failed(Failure::TimeLimit)),
        _ => None,
    }
}

fn sign(console: &str) -> Option<Sign> {
    let any = |is: fn(&str) -> bool| console.lines().any(is);
    if any(is_login_prompt) {
        Some(Sign::LoginPrompt)
    } else if any(|line| {
        line.contains("Reached target") && TARGETS.iter().any(|target| line.contains(target))
    }) {
        Some(Sign::SystemdTarget)
    } else if any(|line| line.contains("Startup finished in")) {
        Some(Sign::SystemdFinished)
    } else {
        None
    }
}

/// `web-1 login: `. The kernel may write on in the same line.
fn is_login_prompt(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|host| !host.is_empty()) && words.next() == Some("login:")
}

impl Verdict {
    /// A sentence for the job log.
    pub fn came_up(self) -> bool {
        matches!(self, Self::CameUp(_))
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::CameUp(Sign::Probe) => "the machine came up: the probe was answered",
            Self::CameUp(Sign::LoginPrompt) => "the machine came up: it asks for a login",
            Self::CameUp(Sign::SystemdTarget | Sign::SystemdFinished) => {
                "the machine came up: systemd has started everything"
            }
            Self::Failed(Failure::NoBootableDevice) => "the firmware found nothing to boot",
            Self::Failed(Failure::BootLoader) => "the boot loader stopped and waits for a person",
            Self::Failed(Failure::KernelPanic) => "the kernel panicked",
            Self::Failed(Failure::NoRoot) => "the root file system was not found or could not be mounted",
            Self::Failed(Failure::InitramfsShell) => "the initramfs gave up and waits for a person",
            Self::Failed(Failure::EmergencyMode) => "systemd gave up and waits for a person",
            Self::Failed(Failure::Ended) => "the machine switched itself off",
            Self::Failed(Failure::Silent) => "QEMU's firmware did not start, which says nothing of the disk",
            Self::Failed(Failure::TimeLimit) => "the machine did not come up within the time limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(console: &str) -> Option<Verdict> {
        judge(&Scene {
            console,
            probed: None,
            has_ended: false,
            firmware_is_late: false,
            time_is_over: false,
        })
    }

    #[test]
    fn a_boot_under_way_is_undecided() {
        let consoles = [
            "",
            "SeaBIOS (version 1.16.2-debian-1.16.2-1)\nBooting from Hard Disk...\nGRUB loading.\n",
            "[    0.000000] Linux version 6.1.0-44-amd64\nBegin: Loading essential drivers ... done.\n",
            "[  OK  ] Reached target local-fs.target - Local File Systems.\n",
            "[  OK  ] Reached target Initrd Root Device.\n",
            "Begin: Running /scripts/local-block ... done.\n",
        ];
        for console in consoles {
            assert_eq!(watched(console), None, "{console}");
        }
    }

    #[test]
    fn machines_that_came_up() {
        let consoles = [
            (
                "Debian GNU/Linux 12 web-1 ttyS0\n\nweb-1 login: ",
                Sign::LoginPrompt,
            ),
            (
                "web-1 login: [   31.402211] random: crng init done\n",
                Sign::LoginPrompt,
            ),
            (
                "[  OK  ] Reached target multi-user.target - Multi-User System.\n",
                Sign::SystemdTarget,
            ),
            (
                "[  OK  ] Reached target Graphical Interface.\n",
                Sign::SystemdTarget,
            ),
            (
                "[   12.9] systemd[1]: Startup finished in 3.604s (kernel) + 9.332s (userspace) = 12.937s.\n",
                Sign::SystemdFinished,
            ),
        ];
        for (console, sign) in consoles {
            assert_eq!(watched(console), Some(Verdict::CameUp(sign)), "{console}");
        }
    }

    #[test]
    fn machines_that_stopped() {
        let consoles = [
            (
                "Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.\n",
                Failure::NoBootableDevice,
            ),
            (
                "BdsDxe: failed to load Boot0001 \"UEFI QEMU NVMe Ctrl\": Not Found\n\
                 BdsDxe: No bootable option or device was found.\n",
                Failure::NoBootableDevice,
            ),
            (
                "GRUB loading.\nWelcome to GRUB!\n\nerror: no such device: 8f0c1b6e-3d4a-4f1e.\n\
                 Entering rescue mode...\ngrub rescue> ",
                Failure::BootLoader,
            ),
            (
                "GNU GRUB  version 2.06-13\n\n   Minimal BASH-like line editing is supported. For the first word, TAB\n",
                Failure::BootLoader,
            ),
            (
                "[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
                Failure::NoRoot,
            ),
            (
                "[    2.0] Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.\n",
                Failure::KernelPanic,
            ),
            (
                "Gave up waiting for root file system device.  Common problems:\n - Boot args (cat /proc/cmdline)\n\
                 ALERT!  /dev/sda1 does not exist.  Dropping to a shell!\n\n(initramfs) ",
                Failure::NoRoot,
            ),
            (
                "fsck exited with status code 4\nThe root filesystem on /dev/sda1 requires a manual fsck\n\n(initramfs) ",
                Failure::InitramfsShell,
            ),
            (
                "dracut-initqueue[322]: Warning: Could not boot.\nStarting Dracut Emergency Shell...\n\
                 Generating \"/run/initramfs/rdsosreport.txt\"\n\ndracut:/# ",
                Failure::NoRoot,
            ),
            (
                "Generating \"/run/initramfs/rdsosreport.txt\"\n\n\
                 Entering emergency mode. Exit the shell to continue.\n",
                Failure::InitramfsShell,
            ),
            (
                "[DEPEND] Dependency failed for data.mount - /data.\nYou are in emergency mode. After logging in, type\n\
                 [   95.1] systemd[1]: Startup finished in 2.4s (kernel) + 1min 31s (userspace) = 1min 33s.\n\
                 Give root password for maintenance\n(or press Control-D to continue): ",
                Failure::EmergencyMode,
            ),
        ];
        for (console, failure) in consoles {
            assert_eq!(watched(console), Some(Verdict::Failed(failure)), "{console}");
        }
    }

    #[test]
    fn a_probe_decides_alone_that_a_machine_came_up() {
        let mut scene = Scene {
            console: "web-1 login: ",
            probed: Some(false),
            has_ended: false,
            firmware_is_late: false,
            time_is_over: false,
        };
        assert_eq!(judge(&scene), None);
        scene.probed = Some(true);
        assert_eq!(judge(&scene), Some(Verdict::CameUp(Sign::Probe)));
        scene.probed = Some(false);
        scene.time_is_over = true;
        assert_eq!(judge(&scene), Some(Verdict::Failed(Failure::TimeLimit)));
        scene.console = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009";
        assert_eq!(judge(&scene), Some(Verdict::Failed(Failure::KernelPanic)));
    }

    #[test]
    fn a_machine_that_ends_has_failed_unless_it_had_come_up() {
        let mut scene = Scene {
            console: "reboot: Power down\n",
            probed: None,
            has_ended: true,
            firmware_is_late: false,
            time_is_over: false,
        };
        assert_eq!(judge(&scene), Some(Verdict::Failed(Failure::Ended)));
        scene.console = "web-1 login: \nreboot: Power down\n";
        assert_eq!(judge(&scene), Some(Verdict::CameUp(Sign::LoginPrompt)));
    }

    #[test]
    fn a_firmware_that_says_nothing_is_no_fault_of_the_disk() {
        let mut scene = Scene {
            console: "",
            probed: None,
            has_ended: false,
            firmware_is_late: true,
            time_is_over: false,
        };
        assert_eq!(judge(&scene), Some(Verdict::Failed(Failure::Silent)));
        scene.console = "SeaBIOS (version 1.16.2-debian-1.16.2-1)\n";
        assert_eq!(judge(&scene), None);
    }
}
