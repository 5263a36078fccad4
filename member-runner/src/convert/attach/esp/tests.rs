//! Real FAT file systems, made by mkfs.vfat, in files.

use std::{
    os::unix::fs::{FileExt, symlink},
    process::Command,
};

use chrono::{Local, NaiveDate};
use proptest::prelude::*;

use super::*;

/// A folder with the image of an EFI system partition.
struct Scene(tempfile::TempDir);

impl Scene {
    /// `None`, and why on one line, where there is no mkfs.vfat. Where `CI=true`, that is a failure.
    fn new(fat: &str, mib: u64) -> Option<Self> {
        if !Path::new("/usr/sbin/mkfs.vfat").exists() {
            eprintln!("cannot run here: EFI system partitions: mkfs.vfat is not installed");
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "mkfs.vfat is not installed"
            );
            return None;
        }
        let scene = Self(tempfile::tempdir().unwrap());
        fs::File::create(scene.image())
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        scene.run("mkfs.vfat", &["-F", fat]);
        let device = fs::File::options()
            .read(true)
            .write(true)
            .open(scene.image())
            .unwrap();
        let own_entry = Rc::default();
        let fat = mounted(&device, &own_entry).ok().unwrap();
        for folder in ["EFI", "EFI/debian"] {
            assert!(make_folder(&fat.root_dir(), folder, &device, &own_entry).is_ok());
        }
        let files: [(&str, &[u8]); 3] = [
            ("EFI/debian/shimx64.efi", &vec![1; 70_000]),
            ("EFI/debian/grub.cfg", b"search root"),
            ("a long name with blanks.txt", b""),
        ];
        for (path, contents) in files {
            let mut file = fat.root_dir().create_file(path).unwrap();
            file.write_all(contents).unwrap();
        }
        fat.unmount().unwrap();
        Some(scene)
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(Path::new("/usr/sbin").join(program));
        let output = command.args(arguments).arg(self.image()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn fat(&self) -> FileSystem<fs::File> {
        let image = fs::File::options().read(true).write(true).open(self.image());
        FileSystem::new(image.unwrap(), FsOptions::new()).unwrap()
    }

    fn copy(&self) -> Result<Esp, EspError> {
        Esp::copy(&self.image(), "/dev/sda1", &self.0.path().join("esp"))
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let mut contents = Vec::new();
        let fat = self.fat();
        let mut file = fat.root_dir().open_file(path).unwrap();
        file.read_to_end(&mut contents).unwrap();
        contents
    }
}

#[test]
fn what_changed_is_written_back_and_the_rest_is_not_touched() {
    for (fat, mib) in [("12", 2), ("16", 20), ("32", 64)] {
        let Some(scene) = Scene::new(fat, mib) else { return };
        let esp = scene.copy().unwrap();
        let in_folder = |path: &str| esp.folder().join(path);
        assert_eq!(
            fs::read(in_folder("EFI/debian/shimx64.efi")).unwrap(),
            vec![1; 70_000]
        );
        assert_eq!(fs::read(in_folder("a long name with blanks.txt")).unwrap(), b"");
        let before = fs::read(scene.image()).unwrap();
        esp.write_back().unwrap();
        assert!(
            before == fs::read(scene.image()).unwrap(),
            "nothing changed, and it was written"
        );

        // FAT does not know upper from lower case.
        fs::create_dir(in_folder("efi")).unwrap();
        fs::write(in_folder("efi/other"), "other").unwrap();
        fs::create_dir(in_folder("EFI/BOOT")).unwrap();
        fs::create_dir(in_folder("EFI/a folder of another vendor")).unwrap();
        fs::write(in_folder("EFI/BOOT/BOOTX64.EFI"), vec![2; 90_000]).unwrap();
        fs::write(in_folder("EFI/debian/grub.cfg"), "menu").unwrap();
        esp.write_back().unwrap();
        assert_eq!(scene.read("EFI/BOOT/BOOTX64.EFI"), vec![2; 90_000]);
        assert_eq!(scene.read("EFI/debian/grub.cfg"), b"menu");
        assert_eq!(scene.read("EFI/debian/shimx64.efi"), vec![1; 70_000]);
        assert_eq!(scene.read("EFI/other"), b"other");
        scene.run("fsck.vfat", &["-n"]);
    }
}

/// GRUB 2.06, which Debian 11, Ubuntu 22.04 and RHEL 9 start from, finds no file system where an entry has no date.
#[test]
fn what_is_written_has_the_date_of_today() {
    fn days(folder: &Dir<fs::File>, found: &mut Vec<Option<NaiveDate>>) {
        for entry in folder.iter().map(Result::unwrap) {
            let date = entry.modified().date;
            let (year, month, day) = (date.year.into(), date.month.into(), date.day.into());
            found.push(NaiveDate::from_ymd_opt(year, month, day));
            let is_itself = [".", ".."].contains(&entry.file_name().as_str());
            if entry.is_dir() && !is_itself {
                days(&entry.to_dir(), found);
            }
        }
    }
    let Some(scene) = Scene::new("32", 64) else { return };
    let esp = scene.copy().unwrap();
    let new = esp.folder().join("EFI/BOOT");
    let today = || Some(Local::now().date_naive());
    let began = today();
    fs::create_dir(&new).unwrap();
    fs::write(new.join("BOOTX64.EFI"), "shim").unwrap();
    esp.write_back().unwrap();
    let mut found = Vec::new();
    days(&scene.fat().root_dir(), &mut found);
    assert_eq!(found.len(), 13);
    assert!(
        found.iter().all(|day| (began..=today()).contains(day)),
        "{found:?}"
    );
}

#[test]
fn what_has_no_place_on_it_is_refused() {
    let Some(scene) = Scene::new("16", 20) else { return };
    let esp = scene.copy().unwrap();
    symlink("/etc/passwd", esp.folder().join("link")).unwrap();
    assert_eq!(
        esp.write_back().unwrap_err().to_string(),
        "link is a symbolic link, for which there is no place on an EFI system partition"
    );
    fs::remove_file(esp.folder().join("link")).unwrap();
    fs::remove_file(esp.folder().join("EFI/debian/grub.cfg")).unwrap();
    assert_eq!(
        esp.write_back().unwrap_err().to_string(),
        "EFI/debian/grub.cfg was removed from the EFI system partition, which is not possible here"
    );
    fs::write(esp.folder().join("EFI/debian/grub.cfg"), "again").unwrap();
    fs::write(esp.folder().join("large"), vec![3; 30 << 20]).unwrap();
    let full = esp.write_back().unwrap_err();
    assert!(
        full.to_string()
            .starts_with("cannot write the FAT file system on /dev/sda1: "),
        "{full}"
    );
    fs::File::create(esp.folder().join("large"))
        .unwrap()
        .set_len(BYTES_MAX + 1)
        .unwrap();
    assert!(matches!(esp.write_back(), Err(EspError::TooMuch)));
}

#[test]
fn more_than_the_limits_is_not_copied() {
    let Some(scene) = Scene::new("32", 64) else { return };
    let mut path = "deep".to_owned();
    for _ in 0..=DEPTH_MAX + 1 {
        scene.fat().root_dir().create_dir(&path).unwrap();
        path.push_str("/a");
    }
    assert!(matches!(scene.copy(), Err(EspError::TooMuch)));
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let Some(scene) = Scene::new("16", 20) else { return };
    // The long name of a file in the root folder, which begins in the first of its entries.
    let image = fs::read(scene.image()).unwrap();
    let name: Vec<u8> = "a long n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .take(10)
        .collect();
    let at = image.windows(10).position(|window| window == name).unwrap();
    let other: Vec<u8> = "../..".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let file = fs::File::options().write(true).open(scene.image()).unwrap();
    file.write_all_at(&other, at as u64).unwrap();
    let refused = scene.copy().unwrap_err();
    assert!(matches!(refused, EspError::Name(_)), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_damage_is_survived(
        damage in proptest::collection::vec((0..100_000_u64, any::<[u8; 4]>()), 1..40),
        in_the_beginning in proptest::collection::vec((0..96_u64, any::<u8>()), 0..2),
    ) {
        if let Some(scene) = Scene::new("12", 1) {
            let file = fs::File::options().write(true).open(scene.image()).unwrap();
            for (at, bytes) in damage {
                file.write_all_at(&bytes, at).unwrap();
            }
            for (at, byte) in in_the_beginning {
                file.write_all_at(&[byte], at).unwrap();
            }
            if let Ok(esp) = scene.copy() {
                fs::write(esp.folder().join("new"), "new").unwrap();
                drop(esp.write_back());
            }
            prop_assert!(fs::metadata(scene.image()).unwrap().len() <= 1 << 20);
        }
    }
}
