//! What names a disk for good, wherever it is attached and whatever it is called today.
//!
//! In order of preference: the world-wide name (SCSI page 0x83, NVMe EUI-64 or NGUID), the serial
//! number, and, for a disk that has neither, the place it is attached at. A file's name is its path.

use std::{fs, path::Path};

use domain::disk::DiskId;

/// The identity of the disk whose folder in `/sys/block` is `dir`, from what the disk says of itself.
pub fn of_block_device(dir: &Path) -> Option<DiskId> {
    let read = |name: &str| {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    if let Some(wwid) = read("wwid").or_else(|| read("device/wwid")) {
        // NVMe says `eui.…` (both EUI-64 and NGUID), SCSI `naa.…` or `t10.…`; a name that the kernel
        // made up itself, `nvme.<vendor>-<serial>-…`, is as unique.
        return Some(match wwid.strip_prefix("naa.") {
            Some(naa) => named("wwn", &format!("0x{naa}")),
            None if wwid.starts_with("eui.") || wwid.starts_with("uuid.") => named("nvme", &wwid),
            None => named("wwn", &wwid),
        });
    }
    read("serial")
        .or_else(|| read("device/serial"))
        .map(|serial| named("serial", &serial))
}

/// The identity of a place: a file's canonical path, or where a device is attached.
pub fn of_path(path: &Path) -> DiskId {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = blake3::hash(bytes).to_hex();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name: String = allowed_only(&name.unwrap_or_default()).chars().take(48).collect();
    id(&format!("path-{name}-{}", &hash[..16]))
}

/// `kind-text`, with a hash in place of what does not fit or is not allowed in a [`DiskId`].
fn named(kind: &str, text: &str) -> DiskId {
    let plain = allowed_only(text);
    if plain == text && plain.len() <= 100 {
        return id(&format!("{kind}-{plain}"));
    }
    // Two texts that differ only in characters that are dropped here must not become one disk.
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let plain: String = plain.chars().take(80).collect();
    id(&format!("{kind}-{plain}-{}", &hash[..16]))
}

fn allowed_only(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let allowed = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if allowed {
            plain.push(c);
        } else if !plain.ends_with('_') {
            plain.push('_');
        }
    }
    plain
}

fn id(text: &str) -> DiskId {
    text.parse()
        .expect("a prefix and at most 120 allowed characters make a disk identifier")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identities_prefer_what_the_disk_says() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(of_block_device(dir.path()), None);
        put("serial", "vol0123\n");
        assert_eq!(of_block_device(dir.path()).unwrap().as_str(), "serial-vol0123");
        put("device/wwid", "naa.5000c500a0b1c2d3\n");
        assert_eq!(
            of_block_device(dir.path()).unwrap().as_str(),
            "wwn-0x5000c500a0b1c2d3"
        );
        put("wwid", "eui.0025385b71b0a1f2\n");
        assert_eq!(
            of_block_device(dir.path()).unwrap().as_str(),
            "nvme-eui.0025385b71b0a1f2"
        );
    }

    #[test]
    fn files_of_one_name_in_two_folders_differ() {
        let (one, two) = (
            of_path(Path::new("/a/disk 0.raw")),
            of_path(Path::new("/b/disk 0.raw")),
        );
        assert_ne!(one, two);
        assert!(one.as_str().starts_with("path-disk_0.raw-"));
        assert_eq!(one, of_path(Path::new("/a/disk 0.raw")));
    }

    proptest! {
        #[test]
        fn every_text_makes_an_identity_of_its_own(one in "\\PC{1,300}", two in "\\PC{1,300}") {
            prop_assert_eq!(named("wwn", &one) == named("wwn", &two), one == two);
            prop_assert_eq!(
                of_path(Path::new(&one)) == of_path(Path::new(&two)),
                one == two
            );
        }
    }
}
