//! The AWS-shaped endpoints of the lab answer public clients as AWS would: boto3, the AWS CLI, and HTTP by hand.
//!
//! What is asked and expected is in `tests/aws/*.py`, each file with endpoints of its own.

#![allow(clippy::unwrap_used)]

mod journey;
mod replacement;

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lab::{
    aws::{Aws, moto},
    programs::folder_under_test,
    wait::{Look, eventually},
};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(90);

/// The interpreter with the clients.
fn python() -> Option<PathBuf> {
    if_there("AWS-shaped endpoints", moto::python())
}

/// The interpreter with cfn-lint and parliament.
fn linters() -> Option<PathBuf> {
    let version = include_str!("../../aws/linters.txt")
        .lines()
        .find_map(|line| line.strip_prefix("cfn-lint==")?.split(' ').next())
        .expect("linters.txt names cfn-lint");
    if_there("linters", moto::installed(&format!("linters-{version}")))
}

/// `None`, and why on one line, where a tool is not installed.
fn if_there(what: &str, tool: anyhow::Result<PathBuf>) -> Option<PathBuf> {
    match tool {
        Ok(tool) => Some(tool),
        Err(why) => {
            eprintln!("cannot run here: {what}: {why:#}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why:#}");
            None
        }
    }
}

async fn clients_are_content(script: &str) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let aws = Aws::start(folder.path(), 0).await.unwrap();
    passes(&python, script, &aws.endpoint()).await;
}

/// Runs the tests of a script in `tests/aws`.
async fn passes(python: &Path, script: &str, endpoint: &str) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("aws");
    let output = Command::new(python)
        .args([script, "--verbose"])
        .current_dir(scripts)
        .env("ORGLIFT_AWS", endpoint)
        .env("ORGLIFT_HUB", folder_under_test().unwrap().join("orglift-hub"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn images_instances_roles_and_organizations() {
    clients_are_content("control_plane.py").await;
}

#[tokio::test]
async fn ebs_direct() {
    clients_are_content("ebs_direct.py").await;
}

#[tokio::test]
async fn faults_and_the_log_of_calls() {
    clients_are_content("faults.py").await;
}

#[tokio::test]
async fn onboarding_of_accounts() {
    clients_are_content("onboarding.py").await;
}

#[tokio::test]
async fn networks_of_accounts() {
    clients_are_content("readiness.py").await;
}

/// Nothing of it is called, so there are no endpoints.
#[tokio::test]
async fn templates_and_policies_pass_linters() {
    let Some(python) = linters() else { return };
    passes(&python, "lint.py", "").await;
}

#[tokio::test]
async fn moto_ends_with_the_program_that_started_it() {
    if python().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Command::new(folder_under_test().unwrap().join("orglift-lab"))
        .args(["aws", "--port", "0", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let port_file = folder.path().join("port");
    let said = || async {
        let port = fs::read_to_string(&port_file)?.parse::<u16>()?;
        Ok(Look::Seen(port))
    };
    let port = eventually("moto listens", SOON, said).await.unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    lab.kill().await.unwrap();
    let is_gone = || async {
        let answer = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        Ok(Look::when(answer.is_err(), answer))
    };
    eventually("moto is gone", SOON, is_gone).await.unwrap();
}
