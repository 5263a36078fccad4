//! An initramfs for every kernel, with the drivers that an instance boots by.
//!
//! An initramfs that has them is left alone, so that a second conversion changes nothing. One that was made anew is
//! looked into; where the drivers are not in it, or its generator failed, what was there before is put back.

use std::{collections::BTreeSet, io::Read};

use crate::convert::{
    editor::{EditError, Editor},
    inspect::{
        Facts,
        initramfs::InitramfsGenerator,
        kernels::{self, BuiltAs, Driver},
        storage::Layer,
    },
    sandbox::{Sandbox, SandboxError},
    tree::{Kind, Readers, Tree, TreeError},
};

/// What is kept of an initramfs while a new one is made. One with every driver and its firmware has 150 MiB.
const INITRAMFS_MAX: u64 = 512 << 20;

const INITRAMFS_TOOLS_MODULES: &str = "/etc/initramfs-tools/modules";
/// Read after the rest of its folder, so that it has the last word.
const INITRAMFS_TOOLS_SETTINGS: &str = "/etc/initramfs-tools/conf.d/zz-orglift";
const DRACUT_SETTINGS: &str = "/etc/dracut.conf.d/zz-orglift.conf";
/// Left to itself, dracut takes the highest level: 59 s for a kernel of Debian 12, where this takes 8 s and 4 % more room.
/// Every kernel unpacks it.
const DRACUT_COMPRESSION: [&str; 2] = ["--compress", "gzip -n -4"];

const WHY_SETTINGS: &str =
    "the initramfs of every kernel, those of later updates too, has the drivers of an instance";

/// What an instance, or the machine of a rehearsal, has its disks and its network on. A system with an array needs what
/// puts that together, too.
const DRIVERS: [Driver; 8] = [
    Driver::Nvme,
    Driver::Ena,
    Driver::VirtioPci,
    Driver::VirtioBlk,
    Driver::VirtioScsi,
    Driver::VirtioNet,
    Driver::XenBlkfront,
    Driver::XenNetfront,
];

#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    #[error(
        "the guest has nothing by which its initramfs could be made anew: install initramfs-tools or dracut on the source"
    )]
    NoGenerator,
    #[error(
        "the guest makes its initramfs by {}, which cannot be converted: install initramfs-tools or dracut on the source",
        .0.name()
    )]
    Unsupported(InitramfsGenerator),
    #[error("cannot make an initramfs for kernel {kernel}")]
    Generate {
        kernel: String,
        #[source]
        source: SandboxError,
    },
    #[error("the new initramfs of kernel {kernel} lacks {}; its generator said:\n{output}", missing.join(", "))]
    Lacks {
        kernel: String,
        missing: Vec<&'static str>,
        output: String,
    },
    #[error("cannot look into {path}")]
    Look {
        path: String,
        #[source]
        source: SandboxError,
    },
    #[error("{path} lists more files than can be looked through")]
    Listing { path: String },
    #[error("{path} has {bytes} bytes, more than the {INITRAMFS_MAX} that are kept while a new one is made")]
    TooLong { path: String, bytes: u64 },
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// A kernel, and what is to be in its initramfs.
#[derive(Debug)]
struct Kernel {
    version: String,
    /// Where its initramfs is or belongs.
    initramfs: String,
    /// Of what is wanted, what it has as modules. What is built in or absent cannot be packed.
    modules: Vec<&'static str>,
}

/// Which kernels get a new initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those whose initramfs lacks drivers.
    Lacking,
    /// All: what goes into it has changed, `/etc/crypttab` for one.
    All,
}

/// Sees to it that the initramfs of each kernel has the drivers of an instance.
pub fn rebuild(
    editor: &mut Editor,
    sandbox: &Sandbox,
    facts: &Facts,
    which: Which,
) -> Result<(), InitramfsError> {
    let tree = editor.tree();
    let generator = Generator::of(facts)?;
    let mut drivers = DRIVERS.to_vec();
    if facts.uses(Layer::Md) {
        drivers.push(Driver::Raid1);
    }
    let kernels: Vec<Kernel> = facts
        .kernels
        .iter()
        // Of a kernel that lost its modules no initramfs can be made. Inspection has said so.
        .filter(|kernel| kernel.has_modules)
        .map(|kernel| generator.kernel(kernel, &drivers))
        .collect();
    generator.configure(editor, &kernels, &facts.dracut_parameters)?;
    for kernel in &kernels {
        if which == Which::Lacking && generator.missing(tree, sandbox, kernel)?.is_empty() {
            continue;
        }
        let why = format!(
            "kernel {} finds its disks and its network on an instance",
            kernel.version
        );
        editor.watch(&generator.writes(), &why, || {
            generator.remake(tree, sandbox, kernel)
        })??;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generator {
    InitramfsTools,
    Dracut,
}

impl Generator {
    fn of(facts: &Facts) -> Result<Self, InitramfsError> {
        match facts.initramfs {
            Some(InitramfsGenerator::InitramfsTools) => Ok(Self::InitramfsTools),
            Some(InitramfsGenerator::Dracut) => Ok(Self::Dracut),
            Some(other) => Err(InitramfsError::Unsupported(other)),
            None => Err(InitramfsError::NoGenerator),
        }
    }

    fn kernel(self, kernel: &kernels::Kernel, drivers: &[Driver]) -> Kernel {
        let version = kernel.version.clone();
        let initramfs = kernel.initrd.clone().unwrap_or_else(|| match self {
            Self::InitramfsTools => format!("/boot/initrd.img-{version}"),
            Self::Dracut => format!("/boot/initramfs-{version}.img"),
        });
        let is_module = |driver: &Driver| kernel.built(*driver) == BuiltAs::Module;
        Kernel {
            version,
            initramfs,
            modules: drivers
                .iter()
                .copied()
                .filter(is_module)
                .map(Driver::module)
                .collect(),
        }
    }

    fn writes(self) -> Vec<&'static str> {
        match self {
            Self::InitramfsTools => vec!["/boot", "/var/lib/initramfs-tools"],
            Self::Dracut => vec!["/boot"],
        }
    }

    /// For the initramfs that is made here, and those that updates of the kernel bring.
    fn configure(
        self,
        editor: &mut Editor,
        kernels: &[Kernel],
        dracut_parameters: &[String],
    ) -> Result<(), InitramfsError> {
        // A module that one of the kernels lacks is passed over by both generators.
        let modules: BTreeSet<&str> = kernels
            .iter()
            .flat_map(|kernel| kernel.modules.iter().copied())
            .collect();
        if modules.is_empty() {
            return Ok(());
        }
        match self {
            Self::InitramfsTools => {
                let before = editor
                    .tree()
                    .read_text(INITRAMFS_TOOLS_MODULES)?
                    .unwrap_or_default();
                let after = with_modules(&before, &modules);
                editor.write(INITRAMFS_TOOLS_MODULES, after.as_bytes(), WHY_SETTINGS)?;
                if chooses_by_hardware(editor.tree())? {
                    let why = "drivers are not chosen by the hardware of the source";
                    editor.write(INITRAMFS_TOOLS_SETTINGS, b"MODULES=most\n", why)?;
                }
            }
            Self::Dracut => {
                let modules: Vec<&str> = modules.into_iter().collect();
                let mut settings = vec![
                    "hostonly=\"no\"\n".to_owned(),
                    format!("add_drivers+=\" {} \"\n", modules.join(" ")),
                ];
                // An initramfs for the source's hardware alone has all that within: what is to be put together, if the boot
                // loader's menu does not say it, and the names of arrays, which are /dev/md127 without.
                if !dracut_parameters.is_empty() {
                    settings.push(format!("kernel_cmdline+=\" {} \"\n", dracut_parameters.join(" ")));
                    settings.push("mdadmconf=\"yes\"\nlvmconf=\"yes\"\n".to_owned());
                }
                let settings = settings.concat();
                editor.write(DRACUT_SETTINGS, settings.as_bytes(), WHY_SETTINGS)?;
            }
        }
        Ok(())
    }

    /// Makes one in place of the old one, which comes back unless the new one is good.
    fn remake(self, tree: &Tree, sandbox: &Sandbox, kernel: &Kernel) -> Result<(), InitramfsError> {
        let before = contents(tree, &kernel.initramfs)?;
        let made = self
            .generate(tree, sandbox, kernel, before.is_some())
            .and_then(|output| {
                let missing = self.missing(tree, sandbox, kernel)?;
                if missing.is_empty() {
                    return Ok(());
                }
                Err(InitramfsError::Lacks {
                    kernel: kernel.version.clone(),
                    missing,
                    output,
                })
            });
        if made.is_err() && contents(tree, &kernel.initramfs)? != before {
            match before {
                Some(before) => tree.replace(&kernel.initramfs, &before, Readers::All)?,
                None => tree.remove(&kernel.initramfs)?,
            }
        }
        made
    }

    fn generate(
        self,
        tree: &Tree,
        sandbox: &Sandbox,
        kernel: &Kernel,
        exists: bool,
    ) -> Result<String, InitramfsError> {
        let (path, version) = (kernel.initramfs.as_str(), kernel.version.as_str());
        let said = match self {
            Self::InitramfsTools => {
                let mode = if exists { "-u" } else { "-c" };
                sandbox.run("update-initramfs", &[mode, "-k", version])
            }
            Self::Dracut => {
                let mut arguments = vec!["--force"];
                if !chooses_compression(tree)? {
                    arguments.extend(DRACUT_COMPRESSION);
                }
                arguments.extend([path, version]);
                sandbox.run("dracut", &arguments)
            }
        };
        said.map(|output| output.to_string())
            .map_err(|source| InitramfsError::Generate {
                kernel: kernel.version.clone(),
                source,
            })
    }

    /// Drivers that the initramfs lacks: all of them where there is none.
    fn missing(
        self,
        tree: &Tree,
        sandbox: &Sandbox,
        kernel: &Kernel,
    ) -> Result<Vec<&'static str>, InitramfsError> {
        let path = &kernel.initramfs;
        // Through links, of which each leads somewhere in the guest.
        if tree.open_file(path)?.is_none() {
            return Ok(kernel.modules.clone());
        }
        let program = match self {
            Self::InitramfsTools => "lsinitramfs",
            Self::Dracut => "lsinitrd",
        };
        let listing = sandbox
            .run(program, &[path])
            .map_err(|source| InitramfsError::Look {
                path: path.clone(),
                source,
            })?;
        let listing = listing
            .whole()
            .ok_or_else(|| InitramfsError::Listing { path: path.clone() })?;
        let present: BTreeSet<String> = listing.lines().filter_map(module_of).collect();
        let is_missing = |module: &&'static str| !present.contains(&one_spelling(module));
        Ok(kernel.modules.iter().copied().filter(is_missing).collect())
    }
}

/// The module that a line of a listing ends with: `usr/lib/modules/6.1/kernel/drivers/block/xen-blkfront.ko.xz`.
fn module_of(line: &str) -> Option<String> {
    let (_, name) = line.rsplit_once('/')?;
    let (name, compression) = name.split_once(".ko")?;
    ["", ".gz", ".xz", ".zst"]
        .contains(&compression)
        .then(|| one_spelling(name))
}

/// A module has one name, written with `-` or `_` as its author liked.
fn one_spelling(module: &str) -> String {
    module.replace('-', "_")
}

/// The list of initramfs-tools, with these as well.
fn with_modules(list: &str, modules: &BTreeSet<&str>) -> String {
    let listed: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(one_spelling)
        .collect();
    let mut list = list.to_owned();
    for module in modules
        .iter()
        .filter(|module| !listed.contains(&one_spelling(module)))
    {
        if !list.is_empty() && !list.ends_with('\n') {
            list.push('\n');
        }
        list.push_str(module);
        list.push('\n');
    }
    list
}

/// Whether `MODULES=dep` is in force, which takes the drivers of the machine that it runs on: here, that is none.
fn chooses_by_hardware(tree: &Tree) -> Result<bool, TreeError> {
    let folders = ["/etc/initramfs-tools/conf.d"];
    let settings = settings(tree, "/etc/initramfs-tools/initramfs.conf", &folders)?;
    let mut by_hardware = false;
    for text in settings {
        if let Some(value) = text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix("MODULES="))
        {
            by_hardware = value.trim_matches(['"', '\'']) == "dep";
        }
    }
    Ok(by_hardware)
}

/// Whether the distribution or the owner has told dracut how to compress.
fn chooses_compression(tree: &Tree) -> Result<bool, TreeError> {
    let folders = ["/usr/lib/dracut/dracut.conf.d", "/etc/dracut.conf.d"];
    let settings = settings(tree, "/etc/dracut.conf", &folders)?;
    let mut lines = settings.iter().flat_map(|text| text.lines());
    Ok(lines.any(|line| line.trim_start().starts_with("compress=")))
}

/// The text of a file, and of those in folders that add to it.
fn settings(tree: &Tree, file: &str, folders: &[&str]) -> Result<Vec<String>, TreeError> {
    let mut files = vec![file.to_owned()];
    for folder in folders {
        files.extend(tree.list(folder)?.iter().map(|name| format!("{folder}/{name}")));
    }
    let mut texts = Vec::new();
    for file in files {
        // A folder may hold others of its own, which are not read by a generator either.
        if tree.kind(&file)? != Some(Kind::Folder) {
            texts.extend(tree.read_text(&file)?);
        }
    }
    Ok(texts)
}

fn contents(tree: &Tree, path: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
    let Some(file) = tree.open_file(path)? else {
        return Ok(None);
    };
    let failed = |source| InitramfsError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > INITRAMFS_MAX {
        return Err(InitramfsError::TooLong {
            path: path.to_owned(),
            bytes,
        });
    }
    let mut contents = Vec::new();
    file.take(bytes).read_to_end(&mut contents).map_err(failed)?;
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_listings_of_both_kinds() {
        let of = |line| module_of(line);
        assert_eq!(
            of("usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko").as_deref(),
            Some("nvme")
        );
        let long = "-rw-r--r-- 1 root root 9 Jul  2 13:50 usr/lib/modules/5.14/kernel/drivers/block/xen-blkfront.ko.xz";
        assert_eq!(of(long).as_deref(), Some("xen_blkfront"));
        assert_eq!(
            of("usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko.d/x"),
            None
        );
        assert_eq!(of("etc/modprobe.d/nvme.conf"), None);
    }

    #[test]
    fn a_compression_that_was_chosen_is_found_and_a_comment_is_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/dracut/dracut.conf.d");
        std::fs::create_dir_all(folder.join("old")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        std::fs::write(folder.join("01-dist.conf"), "#compress=\"xz\"\n").unwrap();
        assert!(!chooses_compression(&tree).unwrap());
        std::fs::write(folder.join("01-dist.conf"), "hostonly=yes\ncompress=\"xz\"\n").unwrap();
        assert!(chooses_compression(&tree).unwrap());
    }

    #[test]
    fn a_list_of_modules_gets_what_it_lacks_once() {
        let modules = BTreeSet::from(["nvme", "virtio_blk", "xen-blkfront"]);
        let list = with_modules("# raid\nxen_blkfront  # old\nsd_mod", &modules);
        assert_eq!(list, "# raid\nxen_blkfront  # old\nsd_mod\nnvme\nvirtio_blk\n");
        assert_eq!(with_modules(&list, &modules), list);
    }
}
