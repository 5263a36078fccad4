//! The audit log of a real hub, and somebody with access to its database.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use lab::programs::folder_under_test;
use tempfile::tempdir;

fn hub(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(folder_under_test().unwrap().join("orglift-hub"));
    let (nouns, options) = args.split_at(2);
    command.args(nouns).arg("--dir").arg(dir).args(options);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .trim()
        .to_owned()
}

/// What a check says that finds something.
fn found(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Changes the database behind the hub's back.
fn tamper(dir: &Path, sql: &str) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    let status = Command::new("python3")
        .args(["-c", script])
        .arg(dir.join("hub.db"))
        .arg(sql)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn whoever_changes_the_audit_log_is_found_out() {
    let dir = tempdir().unwrap();
    let verify = |args: &[&str]| hub(dir.path(), &[&["audit", "verify"], args].concat(), "");
    for name in ["ann", "bob", "eve"] {
        let args = [
            "user",
            "add",
            "--name",
            name,
            "--role",
            "viewer",
            "--password-stdin",
        ];
        said(&hub(dir.path(), &args, "correct horse"));
    }
    said(&hub(
        dir.path(),
        &[
            "user",
            "grant",
            "--name",
            "eve",
            "--role",
            "administrator",
            "--scope",
            "everything",
        ],
        "",
    ));
    let head = said(&verify(&[]));
    assert!(head.starts_with("4:"), "{head}");

    // Out of the house, it is proof still.
    let exported = dir.path().join("audit.jsonl");
    let exported = exported.to_str().unwrap();
    std::fs::write(exported, said(&hub(dir.path(), &["audit", "export"], ""))).unwrap();
    assert_eq!(said(&verify(&["--file", exported, "--head", &head])), head);

    tamper(
        dir.path(),
        "update audit set detail = 'viewer for everything' where sequence = 4",
    );
    assert!(found(&verify(&[])).contains("entry 4 is not what was written"));
    tamper(dir.path(), "delete from audit where sequence = 4");
    assert_eq!(
        said(&verify(&[]))[..2],
        *"3:",
        "the end is gone, and the rest is whole"
    );
    let cut = found(&verify(&["--head", &head]));
    assert!(cut.contains("ends with entry 3, and entry 4 was noted"), "{cut}");
    tamper(dir.path(), "delete from audit where sequence = 2");
    assert!(found(&verify(&[])).contains("entries 2 to 2 are missing"));

    assert_eq!(said(&verify(&["--file", exported])), head);
    let broken = verify(&["--file", dir.path().join("hub.db").to_str().unwrap()]);
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
}
