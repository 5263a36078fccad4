//! `orglift-lab` as people run it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lab::{
    programs::Programs,
    source::{compare::first_difference, disk::DiskPlan},
};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::scene::MIB;

fn lab_in(folder: &Path, args: &[&str]) -> Child {
    let Programs::Folder(programs) = Programs::beside_this_test().unwrap() else {
        unreachable!("tests run the programs of a folder")
    };
    Command::new(programs.join("orglift-lab"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn killed_after(mut lab: Child, time: Duration) {
    if tokio::time::timeout(time, lab.wait()).await.is_err() {
        lab.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_lab_that_was_killed_again_and_again_finishes_with_every_server_equal_and_nothing_left() {
    let folder = tempfile::tempdir().unwrap();
    let shape = [
        "--accounts",
        "1",
        "--servers",
        "3",
        "--disk-mib",
        "8",
        "--port",
        "0",
    ];
    let once = [&["--once", "--json", "out.json"][..], &shape].concat();
    for seconds in [1, 2, 3, 4] {
        killed_after(lab_in(folder.path(), &once), Duration::from_secs(seconds)).await;
    }
    let status = lab_in(folder.path(), &once).wait().await.unwrap();
    assert!(status.success());
    let text = fs::read_to_string(folder.path().join("out.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["resources_left"], 0);
    let servers = report["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert_eq!(server["state"], "CUTOVER");
        assert_eq!(server["target_equals_source"], true);
        let disks = |name: &str| -> Vec<PathBuf> { serde_json::from_value(server[name].clone()).unwrap() };
        for (source, target) in disks("source_disks").iter().zip(disks("target_disks")) {
            assert_eq!(first_difference(source, &target).unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_folder_with_another_lab_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = lab_in(
        folder.path(),
        &["--servers", "1", "--disk-mib", "4", "--port", "0"],
    );
    killed_after(first, Duration::from_secs(1)).await;
    let status = lab_in(folder.path(), &["--servers", "2", "--once"])
        .wait()
        .await
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn replication_without_a_hub_goes_on_after_a_kill_and_exports_what_the_source_holds() {
    let folder = tempfile::tempdir().unwrap();
    let plan = DiskPlan {
        path: folder.path().join("source.raw"),
        bytes: 256 * MIB,
        seed: 3,
    };
    plan.make().unwrap();
    let args = [
        "replicate",
        "--source",
        "source.raw",
        "--dir",
        "state",
        "--export",
        "out.raw",
    ];
    for millis in [150, 400, 800] {
        killed_after(lab_in(folder.path(), &args), Duration::from_millis(millis)).await;
    }
    let status = lab_in(folder.path(), &args).wait().await.unwrap();
    assert!(status.success());
    let difference = first_difference(&plan.path, &folder.path().join("out.raw")).unwrap();
    assert_eq!(difference, None);
}
