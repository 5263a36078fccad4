//! The menu of GRUB, and the way by which the firmware of an instance finds GRUB.
//!
//! Boot code on a disk is left as it is: it was copied with the disk and finds its files by their place on it.

use crate::convert::{
    editor::{EditError, Editor},
    sandbox::{Sandbox, SandboxError},
    tree::TreeError,
};

#[derive(Debug, thiserror::Error)]
pub enum BootLoaderError {
    #[error("cannot make the menu of GRUB, {path}")]
    Menu {
        path: String,
        #[source]
        source: SandboxError,
    },
    #[error("{path} only leads to another configuration, and must not become a menu")]
    Wrapper { path: String },
    #[error("{esp} has no boot loader of the kind that GRUB installs")]
    NoEfiProgram { esp: String },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// Removes what GRUB was told of the names that the source's firmware gave to its disks.
pub fn forget_disks(editor: &mut Editor) -> Result<(), BootLoaderError> {
    for path in ["/boot/grub/device.map", "/boot/grub2/device.map"] {
        editor.remove(path, "it names disks of the source, which the instance has not")?;
    }
    Ok(())
}

/// Makes the menu of a guest that has no boot loader specification entries anew, after a change to what it is made
/// of. `name` is what GRUB's programs begin with, `grub` or `grub2`. The sandbox needs the guest's own disks.
pub fn remake_menu(
    editor: &mut Editor,
    sandbox: &Sandbox,
    name: &str,
    path: &str,
) -> Result<(), BootLoaderError> {
    let old = editor.tree().read_text(path)?.unwrap_or_default();
    // Red Hat's menu since version 9.4, and Debian's and Ubuntu's in the EFI system partition.
    if old.contains("configfile") && !old.contains("menuentry") {
        return Err(BootLoaderError::Wrapper {
            path: path.to_owned(),
        });
    }
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let why = "the menu follows the changed settings of GRUB";
    editor
        .watch(&[folder], why, || {
            sandbox.run(&format!("{name}-mkconfig"), &["-o", path])
        })?
        .map_err(|source| BootLoaderError::Menu {
            path: path.to_owned(),
            source,
        })?;
    Ok(())
}

/// What EFI calls an architecture, in the names of programs.
const ARCHITECTURES: [&str; 2] = ["x64", "aa64"];

/// Has a boot loader where firmware looks that knows nothing of the guest, as that of a new instance does:
/// `EFI/BOOT/BOOTX64.EFI`. Distributions rely on a variable of the old machine's firmware instead. `esp` is where the
/// EFI system partition is mounted.
pub fn add_efi_fallback(editor: &mut Editor, esp: &str) -> Result<(), BootLoaderError> {
    let top = match find(editor, esp, "EFI")? {
        Some(name) => format!("{esp}/{name}"),
        None => return Err(BootLoaderError::NoEfiProgram { esp: esp.to_owned() }),
    };
    let fallback = format!(
        "{top}/{}",
        find(editor, &top, "BOOT")?.unwrap_or_else(|| "BOOT".to_owned())
    );
    for architecture in ARCHITECTURES {
        let program = format!("boot{architecture}.efi");
        if find(editor, &fallback, &program)?.is_some() {
            return Ok(());
        }
    }
    for vendor in editor.tree().list(&top)? {
        let vendor = format!("{top}/{vendor}");
        for architecture in ARCHITECTURES {
            if copy_loader(editor, &vendor, &fallback, architecture)? {
                return Ok(());
            }
        }
    }
    Err(BootLoaderError::NoEfiProgram { esp: esp.to_owned() })
}

/// Whether the vendor had a loader of that architecture. The shim, where there is one, starts the GRUB beside it.
/// Its `fbx64.efi` is left out: it would enter itself into the firmware's variables and reboot.
fn copy_loader(
    editor: &mut Editor,
    vendor: &str,
    fallback: &str,
    architecture: &str,
) -> Result<bool, BootLoaderError> {
    let grub = format!("grub{architecture}.efi");
    if find(editor, vendor, &grub)?.is_none() {
        return Ok(false);
    }
    let first = format!("BOOT{}.EFI", architecture.to_uppercase());
    let shim = format!("shim{architecture}.efi");
    let copies = if find(editor, vendor, &shim)?.is_some() {
        vec![
            (shim, first),
            (grub.clone(), grub),
            (format!("mm{architecture}.efi"), format!("mm{architecture}.efi")),
        ]
    } else {
        vec![(grub, first)]
    };
    // GRUB looks for its configuration where it was built to, or beside itself.
    let configuration = ("grub.cfg".to_owned(), "grub.cfg".to_owned());
    for (from, to) in copies.into_iter().chain([configuration]) {
        let Some(from) = find(editor, vendor, &from)? else {
            continue;
        };
        if let Some(contents) = editor.tree().read(&format!("{vendor}/{from}"))? {
            let why = "the firmware of a new instance starts what is in this folder";
            editor.write(&format!("{fallback}/{to}"), &contents, why)?;
        }
    }
    Ok(true)
}

/// The name in a folder, however it is spelt: FAT does not know upper from lower case.
fn find(editor: &Editor, folder: &str, name: &str) -> Result<Option<String>, TreeError> {
    // What is not a folder has no names in it.
    if !matches!(
        editor.tree().kind(folder)?,
        Some(crate::convert::tree::Kind::Folder)
    ) {
        return Ok(None);
    }
    let names = editor.tree().list(folder)?;
    Ok(names.into_iter().find(|found| found.eq_ignore_ascii_case(name)))
}
