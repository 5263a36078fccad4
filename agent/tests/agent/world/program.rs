//! The program `orglift-agent` as a process.

use std::{path::Path, process::Stdio};

use tokio::process::{Child, Command};

#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub out: String,
    pub err: String,
}

/// Calls the program with `args` and waits for it.
pub async fn agent(dir: &Path, args: &[&str]) -> Outcome {
    let output = command(dir, args).output().await.unwrap();
    Outcome {
        success: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Starts `orglift-agent run`.
pub fn run(dir: &Path) -> Child {
    command(dir, &["run"]).spawn().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orglift-agent"));
    command
        .args(args)
        .arg("--dir")
        .arg(dir)
        .env_remove("ORGLIFT_TOKEN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
