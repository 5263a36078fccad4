//! A checkpoint of disks, taken by agent and runner, and what `orglift-runner convert` makes of it.

use std::{
    fs,
    process::{Command, Output},
};

use lab::programs::folder_under_test;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    combinations::Combination,
    server::{Disks, new_folder},
};

pub struct Replica {
    folder: TempDir,
    server: String,
    combination: Combination,
}

impl Replica {
    pub fn of(disks: &Disks) -> Self {
        let folder = new_folder();
        let mut lab = program("orglift-lab");
        lab.arg("replicate").arg("--dir").arg(folder.path());
        run(lab.arg("--source").args(&disks.files));
        let kept = fs::read(folder.path().join("replicate.json")).unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        Self {
            folder,
            server: kept["server"].as_str().unwrap().to_owned(),
            combination: disks.combination,
        }
    }

    /// The disks of an instance. File systems that were changed have been checked.
    pub fn convert(&self) -> Disks {
        let folder = new_folder();
        run(self.conversion().arg("--to").arg(folder.path()));
        Disks::of(folder, "img", self.combination)
    }

    /// The paths that a conversion would change.
    pub fn changes(&self) -> Vec<String> {
        let told = run(self.conversion().args(["--dry-run", "--json"]));
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let changes = told["change_list"]["changes"].as_array().unwrap();
        let path = |change: &Value| change["path"].as_str().unwrap().to_owned();
        changes.iter().map(path).collect()
    }

    fn conversion(&self) -> Command {
        let boot_mode = if self.combination.has_uefi() {
            "uefi"
        } else {
            "legacy-bios"
        };
        let mut runner = program("orglift-runner");
        runner
            .args(["convert", "--server", &self.server, "--boot-mode", boot_mode])
            .arg("--dir")
            .arg(self.folder.path().join("runner"))
            .arg("--store")
            .arg(format!(
                "layers:{}",
                self.folder.path().join("snapshots").display()
            ));
        runner
    }
}

fn program(name: &str) -> Command {
    Command::new(folder_under_test().unwrap().join(name))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    output
}
