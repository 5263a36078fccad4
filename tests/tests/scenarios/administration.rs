//! What administrators do with the program itself: its audit log, backups, certificates, its own log.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use identity::{Authority, NewKey, Role};
use lab::{
    process::Process,
    programs::folder_under_test,
    wait::{Look, eventually},
};
use tempfile::tempdir;

use crate::scene::SOON;

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

/// A hub that runs on a folder, and where its console is.
struct Running {
    process: Process,
    ui: String,
}

async fn serve(dir: &Path, args: &[&str]) -> Running {
    let mut command = Command::new(folder_under_test().unwrap().join("orglift-hub"));
    command
        .args([
            "serve",
            "--ui",
            "127.0.0.1:0",
            "--machines",
            "127.0.0.1:0",
            "--dir",
        ])
        .arg(dir)
        .arg("--cloud")
        .arg(format!("folder:{}", dir.join("cloud").display()))
        .args(args);
    let _ = std::fs::remove_file(dir.join("listen.json"));
    let process = Process::of(command, "the hub", &dir.join("hub.log")).unwrap();
    let look = || async {
        let found = std::fs::read(dir.join("listen.json"));
        let Ok(read) = found else {
            return Ok(Look::NotYet("it does not say where it listens".to_owned()));
        };
        let read: serde_json::Value = serde_json::from_slice(&read)?;
        Ok(Look::Seen(read["ui"].as_str().unwrap_or_default().to_owned()))
    };
    let ui = eventually("the hub listens", SOON, look).await.unwrap();
    Running { process, ui }
}

#[tokio::test]
async fn a_backup_of_a_running_hub_becomes_a_hub_again() {
    let dir = tempdir().unwrap();
    let (of, to, again) = (
        dir.path().join("hub"),
        dir.path().join("backup"),
        dir.path().join("again"),
    );
    std::fs::create_dir(&of).unwrap();
    let args = [
        "user",
        "add",
        "--name",
        "ann",
        "--role",
        "viewer",
        "--password-stdin",
    ];
    said(&hub(&of, &args, "correct horse"));
    let running = serve(&of, &[]).await;
    std::fs::write(of.join("hub.toml"), "[sign_in]\nsecond_factor = \"approvers\"\n").unwrap();
    let backup = |to: &Path| {
        let mut command = Command::new(folder_under_test().unwrap().join("orglift-hub"));
        let command = command.arg("backup").arg("--dir").arg(&of).arg("--to").arg(to);
        command.output().unwrap()
    };
    let told = said(&backup(&to));
    assert!(told.contains("the audit log ends with 1:"), "{told}");
    let refused = backup(&to);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is there already: name another folder"));

    // What comes later is not in it, and the hub that is copied goes on.
    said(&hub(&of, &["user", "remove", "--name", "ann"], ""));
    running.process.terminate().await.unwrap();
    let restore = |dir: &Path| {
        let mut command = Command::new(folder_under_test().unwrap().join("orglift-hub"));
        let command = command
            .arg("restore")
            .arg("--from")
            .arg(&to)
            .arg("--dir")
            .arg(dir);
        command.output().unwrap()
    };
    let over = restore(&of);
    assert!(
        String::from_utf8_lossy(&over.stderr).contains("holds a hub already"),
        "{over:?}"
    );
    said(&restore(&again));
    assert_eq!(
        said(&hub(&again, &["user", "list"], "")),
        "ann  viewer for everything"
    );
    for secret in ["hub.db", "ca/ca-key.pem", "hub.toml"] {
        let mode = std::fs::metadata(again.join(secret)).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600,
            "{secret}"
        );
    }
    let of_one = std::fs::read(of.join("ca/ca.pem")).unwrap();
    let restored = serve(&again, &[]).await;
    assert_eq!(
        std::fs::read(again.join("ca/ca.pem")).unwrap(),
        of_one,
        "machines know it again"
    );
    let ready = reqwest::get(format!("http://{}/readyz", restored.ui))
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_into_use_and_a_broken_one_is_not() {
    let dir = tempdir().unwrap();
    let tls = dir.path().join("tls");
    let (certificate, key) = (tls.join("certificate.pem"), tls.join("key.pem"));
    let authority = Authority::generate("somebody").unwrap();
    let issue = || {
        let key = NewKey::generate().unwrap();
        let signed = authority.sign(&key.csr_pem().unwrap(), &Role::Hub).unwrap();
        let signed = key.certified(signed.certificate_pem, authority.certificate_pem().to_owned());
        signed.save(&tls).unwrap();
    };
    issue();
    let args = [
        "--log-format",
        "json",
        "--tls-certificate",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let running = serve(dir.path(), &args).await;
    let shown = || async {
        // Each time anew: what is open stays as it is.
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .tls_info(true)
            .build()
            .unwrap();
        let request = client.get(format!("https://{}/healthz", running.ui));
        let answer = request
            .header("x-request-id", "from-the-balancer")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["x-request-id"], "from-the-balancer");
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    };
    let first = shown().await;
    std::fs::write(&certificate, "broken").unwrap();
    let hangup = || {
        let status = Command::new("kill")
            .args(["-HUP", &running.process.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    };
    hangup();
    let log = || std::fs::read_to_string(dir.path().join("hub.log")).unwrap();
    let told = || async {
        let log = log();
        Ok(Look::when(log.contains("keeps the certificate of before"), log))
    };
    eventually("the log tells of the broken one", SOON, told)
        .await
        .unwrap();
    assert_eq!(shown().await, first);
    issue();
    hangup();
    let renewed = || async {
        let now = shown().await;
        Ok(Look::when(now != first, "the certificate of before"))
    };
    eventually("the new one is shown", SOON, renewed).await.unwrap();
    for line in log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
}
