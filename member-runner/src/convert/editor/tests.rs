use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::PathBuf,
};

use domain::checkpoint::CheckpointNumber;
use rustix::fs::XattrFlags;

use super::*;

struct Guest {
    root: tempfile::TempDir,
    tree: Tree,
    list: ChangeList,
}

impl Guest {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let list = ChangeList::new("s-00000000000000001".parse().unwrap(), CheckpointNumber(7));
        Self { root, tree, list }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn editor(&mut self) -> Editor<'_> {
        Editor::new(&self.tree, &mut self.list, "test")
    }

    fn noted(&self) -> Vec<(&str, &What)> {
        self.list
            .changes
            .iter()
            .map(|change| (change.path.as_str(), &change.what))
            .collect()
    }
}

fn file(contents: &str) -> State {
    State::of(contents.as_bytes())
}

#[test]
fn a_change_is_noted_once() {
    let mut guest = Guest::new();
    fs::write(guest.path("/etc/fstab"), "old\n").unwrap();
    for _ in 0..2 {
        guest
            .editor()
            .write("/etc/fstab", b"new\n", "names change")
            .unwrap();
        guest
            .editor()
            .write("/etc/a/b/c", b"deep\n", "it is needed")
            .unwrap();
        guest.editor().link("/etc/a/link", "b/c", "it is needed").unwrap();
    }
    assert_eq!(
        guest.noted(),
        [
            (
                "/etc/fstab",
                &What::Changed {
                    before: file("old\n"),
                    after: file("new\n"),
                }
            ),
            ("/etc/a", &What::Created { after: State::Folder }),
            ("/etc/a/b", &What::Created { after: State::Folder }),
            (
                "/etc/a/b/c",
                &What::Created {
                    after: file("deep\n")
                }
            ),
            (
                "/etc/a/link",
                &What::Created {
                    after: State::Link { target: "b/c".into() }
                }
            ),
        ]
    );
    assert_eq!(fs::read_to_string(guest.path("/etc/a/link")).unwrap(), "deep\n");
    assert_eq!(
        guest.tree.list("/etc").unwrap(),
        ["a", "fstab"],
        "no draft is left"
    );
}

#[test]
fn owner_mode_and_labels_stay() {
    let mut guest = Guest::new();
    let path = guest.path("/etc/fstab");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    rustix::fs::setxattr(&path, "user.label", b"etc_t", XattrFlags::empty()).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        chown(&path, Some(12), Some(34)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    }
    guest.editor().write("/etc/fstab", b"new", "").unwrap();
    guest.editor().write_private("/etc/key", b"new", "").unwrap();
    guest.editor().write("/etc/open", b"new", "").unwrap();

    let found = fs::metadata(&path).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o4750);
    if root {
        assert_eq!((found.uid(), found.gid()), (12, 34));
    }
    let mut label = [0; 16];
    let length = rustix::fs::getxattr(&path, "user.label", &mut label[..]).unwrap();
    assert_eq!(&label[..length], b"etc_t");
    assert_eq!(
        fs::metadata(guest.path("/etc/key")).unwrap().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(guest.path("/etc/open")).unwrap().mode() & 0o777,
        0o644
    );
}

#[test]
fn links_are_written_through_but_never_out_of_the_guest() {
    let mut guest = Guest::new();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(guest.path("/usr/share")).unwrap();
    fs::write(guest.path("/usr/share/fstab"), "old").unwrap();
    symlink("../usr/share/fstab", guest.path("/etc/fstab")).unwrap();
    symlink(outside.path(), guest.path("/etc/out")).unwrap();
    symlink("loop", guest.path("/etc/loop")).unwrap();

    guest.editor().write("/etc/fstab", b"new", "").unwrap();
    assert!(guest.path("/etc/fstab").is_symlink());
    assert_eq!(fs::read(guest.path("/usr/share/fstab")).unwrap(), b"new");
    assert_eq!(guest.list.changes[0].path, "/etc/../usr/share/fstab");

    let refused = guest.editor().write("/etc/out/file", b"new", "").unwrap_err();
    assert!(refused.to_string().contains("/etc/out"), "{refused}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(guest.editor().write("/etc/loop", b"new", "").is_err());
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let mut guest = Guest::new();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, guest.path("/etc/fifo"), fifo, 0o600.into(), 0).unwrap();
    let refused = guest.editor().write("/etc/fifo", b"new", "").unwrap_err();
    assert_eq!(refused.to_string(), "/etc/fifo is a FIFO, and should be a file");
    guest.editor().remove("/etc/fifo", "it blocks").unwrap();
    assert_eq!(
        guest.noted(),
        [(
            "/etc/fifo",
            &What::Removed {
                before: State::Special
            }
        )]
    );
}

#[test]
fn folders_go_with_what_is_in_them_and_keys_are_not_shown() {
    let mut guest = Guest::new();
    fs::create_dir_all(guest.path("/var/lib/agent")).unwrap();
    fs::write(guest.path("/var/lib/agent/key.pem"), "hush").unwrap();
    symlink("/etc", guest.path("/var/lib/agent/link")).unwrap();
    for _ in 0..2 {
        guest
            .editor()
            .remove_private("/var/lib/agent", "its work is done")
            .unwrap();
    }
    let paths: Vec<_> = guest.noted().into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        ["/var/lib/agent/key.pem", "/var/lib/agent/link", "/var/lib/agent"]
    );
    assert!(guest.path("/etc").exists());
    assert!(!serde_json::to_string(&guest.list).unwrap().contains("hush"));
}

#[test]
fn what_programs_change_is_noted() {
    let mut guest = Guest::new();
    for name in ["stays", "changes", "goes"] {
        fs::write(guest.path("/etc").join(name), "old\n").unwrap();
    }
    let folder = guest.path("/etc");
    let answer = guest
        .editor()
        .watch(&["/etc", "/none"], "it was run", || {
            fs::write(folder.join("changes"), "new\n").unwrap();
            fs::remove_file(folder.join("goes")).unwrap();
            fs::write(folder.join("comes"), vec![7; 1 << 20]).unwrap();
            5
        })
        .unwrap();
    assert_eq!(answer, 5);
    assert_eq!(
        guest.noted(),
        [
            (
                "/etc/changes",
                &What::Changed {
                    before: file("old\n"),
                    after: file("new\n"),
                }
            ),
            (
                "/etc/comes",
                &What::Created {
                    after: State::of(&vec![7; 1 << 20])
                }
            ),
            (
                "/etc/goes",
                &What::Removed {
                    before: file("old\n")
                }
            ),
        ]
    );
}
