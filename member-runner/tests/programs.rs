//! Programs of a real Debian 12, in the sandbox, on files that `tests/guest` made.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use domain::{changes::ChangeList, checkpoint::CheckpointNumber, launch::Hypervisor};
use member_runner::convert::{
    editor::Editor,
    inspect::{
        self, Facts,
        disks::DiskFacts,
        kernels::{BuiltAs, Driver, Kernel},
    },
    programs::{
        boot_loader,
        initramfs::{self, InitramfsError, Which},
    },
    sandbox::{Device, Sandbox},
    tree::Tree,
};
use tempfile::TempDir;

const RUNNER: &str = env!("CARGO_BIN_EXE_orglift-runner");

#[test]
fn update_initramfs_makes_each_initramfs_fit_and_does_so_once() {
    let Some(guest) = Debian::mount("bookworm") else {
        return;
    };
    let facts = guest.facts();
    assert_eq!(facts.kernels.len(), 2);
    for kernel in &facts.kernels {
        assert!(modules(kernel).len() >= 6, "{kernel:?}");
        assert_eq!(guest.modules_in("lsinitramfs", kernel), Vec::<&str>::new());
    }

    let list = guest.rebuild(&facts, Which::Lacking).expect("both are made");
    for kernel in &facts.kernels {
        assert_eq!(guest.modules_in("lsinitramfs", kernel), modules(kernel));
    }
    let mut expected = vec!["/etc/initramfs-tools/modules"];
    expected.extend(facts.kernels.iter().map(path));
    assert_eq!(paths(&list), expected);

    assert_eq!(
        guest
            .rebuild(&facts, Which::Lacking)
            .expect("nothing is to do")
            .changes,
        []
    );
    // The very same bytes, or the list would name them.
    assert_eq!(
        guest.rebuild(&facts, Which::All).expect("they are made").changes,
        []
    );
}

#[test]
fn an_initramfs_that_lacks_a_driver_is_not_kept() {
    let Some(guest) = Debian::mount("bookworm") else {
        return;
    };
    let mut facts = guest.cloud_kernel();
    // It is built in, so that no module of that name can be packed.
    assert_eq!(
        facts.kernels[0].drivers.insert(Driver::Nvme, BuiltAs::Module),
        Some(BuiltAs::In)
    );
    let before = guest.read(path(&facts.kernels[0]));
    let error = guest.rebuild(&facts, Which::Lacking).expect_err("it lacks one");
    let InitramfsError::Lacks { missing, output, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(missing, &["nvme"]);
    assert!(output.contains("update-initramfs: Generating"), "{output}");
    assert!(guest.read(path(&facts.kernels[0])) == before);
}

#[test]
fn a_generator_that_fails_leaves_the_old_initramfs() {
    let Some(guest) = Debian::mount("bookworm") else {
        return;
    };
    let facts = guest.cloud_kernel();
    let before = guest.read(path(&facts.kernels[0]));
    let hook = guest.path("/etc/initramfs-tools/hooks/broken");
    fs::write(
        &hook,
        "#!/bin/sh\n[ \"$1\" = prereqs ] && exit\necho this hook is broken\nexit 7\n",
    )
    .expect("a hook is written");
    let made = Command::new("chmod")
        .arg("+x")
        .arg(&hook)
        .status()
        .expect("chmod runs");
    assert!(made.success());
    let error = guest.rebuild(&facts, Which::Lacking).expect_err("a hook fails");
    let InitramfsError::Generate { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("this hook is broken"), "{source}");
    assert!(guest.read(path(&facts.kernels[0])) == before);
}

#[test]
fn drivers_are_not_chosen_by_hardware_that_is_not_there() {
    let Some(guest) = Debian::mount("bookworm") else {
        return;
    };
    fs::write(
        guest.path("/etc/initramfs-tools/conf.d/driver-policy"),
        "MODULES=dep\n",
    )
    .expect("it is written");
    let facts = guest.cloud_kernel();
    let list = guest.rebuild(&facts, Which::Lacking).expect("it is made");
    let kernel = &facts.kernels[0];
    assert_eq!(guest.modules_in("lsinitramfs", kernel), modules(kernel));
    let settings = "/etc/initramfs-tools/conf.d/zz-orglift";
    assert!(paths(&list).contains(&settings));
    assert_eq!(guest.read(settings), b"MODULES=most\n");
}

#[test]
fn dracut_makes_an_initramfs_fit_and_does_so_once() {
    let Some(guest) = Debian::mount("bookworm-dracut") else {
        return;
    };
    // One of the two: this takes a minute for each.
    let facts = guest.cloud_kernel();
    let kernel = &facts.kernels[0];
    assert_ne!(guest.modules_in("lsinitrd", kernel), modules(kernel));
    let list = guest.rebuild(&facts, Which::Lacking).expect("it is made");
    assert_eq!(guest.modules_in("lsinitrd", kernel), modules(kernel));
    assert_eq!(paths(&list), ["/etc/dracut.conf.d/zz-orglift.conf", path(kernel)]);
    assert_eq!(
        guest
            .rebuild(&facts, Which::Lacking)
            .expect("nothing is to do")
            .changes,
        []
    );
}

#[test]
fn the_menu_of_grub_names_the_root_by_its_uuid() {
    let Some(guest) = Debian::mount("bookworm") else {
        return;
    };
    // GRUB asks for the device below the root, which an overlay has not.
    let Some(disk) = Disk::copy(&guest) else {
        return;
    };
    fs::create_dir_all(disk.root().join("boot/grub")).expect("a folder is made");
    let settings =
        "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"console=ttyS0,115200\"\nGRUB_DISABLE_OS_PROBER=false\n";
    fs::write(disk.root().join("etc/default/grub"), settings).expect("it is written");
    let tree = Tree::open(&disk.root()).expect("it is a folder");
    let sandbox = Sandbox::new(&disk.root(), Path::new(RUNNER)).with_devices(vec![Device {
        path: disk.device.clone().into(),
        names: Vec::new(),
        uuid: Some(UUID.to_owned()),
    }]);
    let path = "/boot/grub/grub.cfg";
    for run in 0..2 {
        let mut list = changes();
        let mut editor = Editor::new(&tree, &mut list, "boot loader");
        boot_loader::remake_menu(&mut editor, &sandbox, "grub", path)
            .unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(paths(&list), if run == 0 { vec![path] } else { vec![] });
    }
    let menu = fs::read_to_string(disk.root().join("boot/grub/grub.cfg")).expect("it is there");
    let kernels: Vec<&str> = menu
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("linux"))
        .collect();
    assert_eq!(kernels.len(), 5, "{menu}");
    for line in kernels {
        let root = format!("root=UUID={UUID} ro ");
        assert!(
            line.contains(&root) && line.contains("console=ttyS0,115200"),
            "{line}"
        );
    }
    assert!(!menu.contains("/dev/loop"), "{menu}");
}

const UUID: &str = "5e0c5b2a-2a35-4a44-a3b0-2f3f4f8f0c11";

/// A guest's files without its modules, on a loop device.
struct Disk {
    folder: TempDir,
    device: String,
}

impl Disk {
    fn copy(guest: &Debian) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder is made");
        let image = folder.path().join("disk.img");
        let file = fs::File::create(&image).expect("a file is made");
        file.set_len(2 << 30).expect("it is sparse");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-U", UUID])
            .arg(&image)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return cannot("no mkfs.ext4");
        }
        let attached = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image)
            .output();
        let Some(attached) = attached.ok().filter(|attached| attached.status.success()) else {
            return cannot("no loop devices");
        };
        let device = String::from_utf8(attached.stdout)
            .expect("its path is UTF-8")
            .trim()
            .to_owned();
        let disk = Self { folder, device };
        fs::create_dir(disk.root()).expect("a folder is made");
        let filled = Command::new("sh")
            .arg("-c")
            .arg("mount \"$1\" \"$2\" && tar -C \"$3\" --exclude=./usr/lib/modules -c . | tar -C \"$2\" -x")
            .args(["sh", &disk.device])
            .args([disk.root(), guest.root()])
            .status()
            .expect("a shell runs");
        assert!(filled.success());
        Some(disk)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whichever of the two there is to undo, the other is tried.
        for (program, argument) in [("umount", self.root()), ("losetup", PathBuf::from(&self.device))] {
            let option = if program == "losetup" {
                "--detach"
            } else {
                "--lazy"
            };
            drop(Command::new(program).arg(option).arg(argument).status());
        }
    }
}

/// A Debian that `tests/guest` made, below an overlay that takes what is written.
struct Debian {
    folder: TempDir,
    tree: Tree,
}

impl Debian {
    /// `None`, and why, where this machine cannot have it.
    fn mount(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return cannot("not root");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guest");
        let made = Command::new(script).arg(name).output().expect("tests/guest runs");
        if !made.status.success() {
            return cannot(String::from_utf8_lossy(&made.stderr).trim());
        }
        let lower = String::from_utf8(made.stdout).expect("the path of the cache is UTF-8");
        let folder = tempfile::tempdir().expect("a temporary folder is made");
        for name in ["upper", "work", "root"] {
            fs::create_dir(folder.path().join(name)).expect("a folder is made");
        }
        let path = folder.path().display();
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(format!(
                "lowerdir={},upperdir={path}/upper,workdir={path}/work",
                lower.trim()
            ))
            .arg(folder.path().join("root"))
            .status()
            .expect("mount runs");
        if !mounted.success() {
            return cannot("no overlay file system");
        }
        let tree = Tree::open(&folder.path().join("root")).expect("it is a folder");
        Some(Self { folder, tree })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).expect("the guest has it")
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::new(&self.root(), Path::new(RUNNER))
    }

    fn facts(&self) -> Facts {
        inspect::inspect(&self.tree, &DiskFacts::default(), Hypervisor::Nitro).0
    }

    /// The same, of the smaller of its two kernels only.
    fn cloud_kernel(&self) -> Facts {
        let mut facts = self.facts();
        facts
            .kernels
            .retain(|kernel| kernel.version.ends_with("-cloud-amd64"));
        assert_eq!(facts.kernels.len(), 1);
        facts
    }

    /// What of a kernel's drivers a program of the guest sees in its initramfs.
    fn modules_in(&self, program: &str, kernel: &Kernel) -> Vec<&'static str> {
        let said = self
            .sandbox()
            .run(program, &[path(kernel)])
            .expect("it is looked into");
        let said = said.whole().expect("it has some thousand files");
        let files: BTreeSet<&str> = said.lines().filter_map(|line| line.rsplit('/').next()).collect();
        let is_there = |module: &&str| files.contains(format!("{module}.ko").as_str());
        modules(kernel).into_iter().filter(is_there).collect()
    }

    fn rebuild(&self, facts: &Facts, which: Which) -> Result<ChangeList, InitramfsError> {
        let mut list = changes();
        let mut editor = Editor::new(&self.tree, &mut list, "initramfs");
        initramfs::rebuild(&mut editor, &self.sandbox(), facts, which)?;
        Ok(list)
    }
}

fn path(kernel: &Kernel) -> &str {
    kernel.initrd.as_deref().expect("it has an initramfs")
}

/// The drivers of an instance that a kernel has as modules.
fn modules(kernel: &Kernel) -> Vec<&'static str> {
    let of_what_is_on_disks = [Driver::Ext4, Driver::Xfs, Driver::Btrfs, Driver::Raid1];
    let drivers = Driver::ALL
        .into_iter()
        .filter(|driver| !of_what_is_on_disks.contains(driver));
    drivers
        .filter(|driver| kernel.built(*driver) == BuiltAs::Module)
        .map(Driver::module)
        .collect()
}

fn paths(list: &ChangeList) -> Vec<&str> {
    list.changes.iter().map(|change| change.path.as_str()).collect()
}

impl Drop for Debian {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.root()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn cannot<T>(why: &str) -> Option<T> {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "programs of Debian: {why}"
    );
    eprintln!("cannot run here: programs of Debian: {why}");
    None
}

fn changes() -> ChangeList {
    ChangeList::new(
        "s-00000000000000001".parse().expect("it is one"),
        CheckpointNumber(7),
    )
}

/// A guest's tree of which only the boot loader's files matter.
#[test]
fn a_boot_loader_of_efi_is_copied_where_firmware_looks() {
    let root = tempfile::tempdir().expect("a temporary folder is made");
    let at = |path: &str| root.path().join(path);
    for folder in ["boot/efi/EFI/debian", "boot/grub"] {
        fs::create_dir_all(at(folder)).expect("a folder is made");
    }
    for (path, text) in [
        ("boot/efi/EFI/debian/shimx64.efi", "shim"),
        ("boot/efi/EFI/debian/grubx64.efi", "grub"),
        ("boot/efi/EFI/debian/mmx64.efi", "keys"),
        ("boot/efi/EFI/debian/fbx64.efi", "enters itself"),
        ("boot/efi/EFI/debian/BOOTX64.CSV", "names"),
        ("boot/efi/EFI/debian/grub.cfg", "configfile"),
        ("boot/grub/device.map", "(hd0) /dev/sda"),
    ] {
        fs::write(at(path), text).expect("a file is written");
    }
    let tree = Tree::open(root.path()).expect("it is a folder");
    for run in 0..2 {
        let mut list = changes();
        let mut editor = Editor::new(&tree, &mut list, "boot loader");
        boot_loader::add_efi_fallback(&mut editor, "/boot/efi").expect("there is one to copy");
        boot_loader::forget_disks(&mut editor).expect("it is removed");
        let expected: &[&str] = &[
            "/boot/efi/EFI/BOOT",
            "/boot/efi/EFI/BOOT/BOOTX64.EFI",
            "/boot/efi/EFI/BOOT/grubx64.efi",
            "/boot/efi/EFI/BOOT/mmx64.efi",
            "/boot/efi/EFI/BOOT/grub.cfg",
            "/boot/grub/device.map",
        ];
        assert_eq!(paths(&list), if run == 0 { expected } else { &[] });
    }
    assert_eq!(
        fs::read(at("boot/efi/EFI/BOOT/BOOTX64.EFI")).expect("it is there"),
        b"shim"
    );
}

#[test]
fn a_configuration_that_leads_to_another_does_not_become_a_menu() {
    let root = tempfile::tempdir().expect("a temporary folder is made");
    fs::create_dir_all(root.path().join("boot/efi/EFI/redhat")).expect("a folder is made");
    let path = "/boot/efi/EFI/redhat/grub.cfg";
    let text =
        "search --no-floppy --fs-uuid --set=dev 1234\nset prefix=($dev)/grub2\nconfigfile $prefix/grub.cfg\n";
    fs::write(root.path().join(&path[1..]), text).expect("a file is written");
    let tree = Tree::open(root.path()).expect("it is a folder");
    let mut list = changes();
    let mut editor = Editor::new(&tree, &mut list, "boot loader");
    let sandbox = Sandbox::new(root.path(), Path::new(RUNNER));
    let error = boot_loader::remake_menu(&mut editor, &sandbox, "grub2", path).expect_err("it is refused");
    assert!(
        matches!(error, boot_loader::BootLoaderError::Wrapper { .. }),
        "{error}"
    );
}
