//! How long it takes to discover, enter and inspect a thousand accounts of which some are denied and some throttled.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, ensure};
use lab::aws::{
    Aws,
    faults::{Effect, Fault},
    moto,
};
use serde_json::{Value, json};

use crate::report::{Report, Samples, Setup};

const ACCOUNTS: usize = 1000;
const EXTERNAL_ID: &str = "orglift-bench";
const REGION: &str = "eu-central-1";
/// A throttled account bears a call at the third attempt.
const THROTTLED_CALLS: u32 = 2;

/// What both do in each account, after assuming its role.
const INSPECTION: [(&str, &str); 2] = [("sts", "GetCallerIdentity"), ("ec2", "DescribeInstances")];

/// An organization on AWS-shaped endpoints.
struct Organization {
    aws: Aws,
    endpoint: String,
    key: String,
    members: Vec<String>,
}

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let aws = runtime.block_on(Aws::start(&setup.dir.join("aws"), 0))?;
    let organization = Organization::make(aws)?;
    report.note(format!(
        "fan-out: {ACCOUNTS} accounts on moto, 5 % denied, 10 % throttled at first; discovered, entered by role, inspected"
    ));
    let (mut own, mut peer) = (Samples::default(), Samples::default());
    let mut are_right = true;
    for round in 0..setup.repeat {
        organization.set_faults();
        let (seconds, right) = organization.enter(setup, round)?;
        own.push(seconds);
        are_right &= right;
        organization.set_faults();
        match organization.enter_with_peer(setup, round)? {
            Some(seconds) => peer.push(seconds),
            None => report.note("c7n-org is not here: tests/bench installs it"),
        }
    }
    report.figures("own_seconds", &own);
    report.figures("peer_seconds", &peer);
    report.note(format!("orglift-hub {own} s, c7n-org {peer} s"));
    report.row(
        "fan-out, outcomes",
        if are_right {
            "each account its own"
        } else {
            "wrong"
        },
        "850 reached at once, 100 after throttling, 50 denied",
        are_right,
    );
    let ratio = peer.median() / own.median();
    report.row(
        "fan-out over 1,000 accounts, times c7n-org",
        format_args!("{ratio:.1}"),
        "≥ 10",
        ratio >= 10.0,
    );
    Ok(())
}

impl Organization {
    fn make(aws: Aws) -> anyhow::Result<Self> {
        let endpoint = aws.endpoint();
        let output = Command::new(moto::python()?)
            .args(["many_accounts.py", &ACCOUNTS.to_string(), EXTERNAL_ID])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("aws"))
            .env("ORGLIFT_AWS", &endpoint)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .context("cannot start Python")?;
        ensure!(
            output.status.success(),
            "the accounts could not be made:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let made: Value = serde_json::from_slice(&output.stdout)?;
        let members = made["members"].as_array().context("no members")?;
        Ok(Self {
            aws,
            endpoint,
            key: made["key"].as_str().context("no key")?.to_owned(),
            members: members
                .iter()
                .filter_map(|id| Some(id.as_str()?.to_owned()))
                .collect(),
        })
    }

    /// Every twentieth account is denied, and every tenth throttled at first.
    fn set_faults(&self) {
        let strikes = |at: usize| match at % 20 {
            0 => Some((Effect::Deny, u32::MAX)),
            3 | 13 => Some((Effect::Throttle, THROTTLED_CALLS)),
            _ => None,
        };
        let struck = self.members.iter().enumerate().filter_map(|(at, member)| {
            let (effect, times) = strikes(at)?;
            Some(INSPECTION.map(|(service, action)| {
                Fault::new(effect.clone())
                    .on(service, action)
                    .in_account(member)
                    .times(times)
            }))
        });
        self.aws.faults().set(struck.flatten().collect());
    }

    /// Seconds, and whether each account had the right outcome.
    fn enter(&self, setup: &Setup, round: u32) -> anyhow::Result<(f64, bool)> {
        let hub = setup.lab.with_file_name("orglift-hub");
        let dir = setup.dir.join(format!("hub-{round}"));
        let added = self
            .command(&hub)
            .args(["organization", "add", "--name", "Example Corp"])
            .args(["--reach", "delegated-administrator", "--region", REGION])
            .args(["--external-id", EXTERNAL_ID, "--dir"])
            .arg(&dir)
            .output()?;
        ensure!(
            added.status.success(),
            "{}",
            String::from_utf8_lossy(&added.stderr)
        );
        let json = dir.join("outcomes.json");
        let began = Instant::now();
        let checked = self
            .command(&hub)
            .args(["accounts", "check", "--cloud", "aws", "--dir"])
            .arg(&dir)
            .arg("--json")
            .arg(&json)
            .output()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(
            checked.status.code() == Some(3),
            "{}: {}",
            checked.status,
            String::from_utf8_lossy(&checked.stderr)
        );
        let outcomes: Vec<Value> = serde_json::from_slice(&fs::read(&json)?)?;
        let outcome = |member: &String| {
            let of_member = outcomes.iter().find(|row| row["account"] == **member);
            of_member.map(|row| row["outcome"]["access"].clone())
        };
        let right = self.members.iter().enumerate().all(|(at, member)| {
            let expected = if at % 20 == 0 { "DENIED" } else { "OK" };
            outcome(member) == Some(json!(expected))
        });
        Ok((seconds, right))
    }

    /// The same by c7n-org; `None` where it is not installed.
    fn enter_with_peer(&self, setup: &Setup, round: u32) -> anyhow::Result<Option<f64>> {
        let Some(program) = std::env::var_os("ORGLIFT_C7N_ORG").map(PathBuf::from) else {
            return Ok(None);
        };
        let dir = setup.dir.join(format!("c7n-{round}"));
        fs::create_dir_all(&dir)?;
        let account = |member: &String| {
            json!({
                "account_id": member,
                "name": format!("account-{member}"),
                "regions": [REGION],
                "role": format!("arn:aws:iam::{member}:role/OrgliftMember"),
                "external_id": EXTERNAL_ID,
            })
        };
        let accounts: Vec<_> = self.members.iter().map(account).collect();
        // Both files are YAML, which JSON is as well.
        let write = |name: &str, value: Value| fs::write(dir.join(name), value.to_string());
        write("accounts.yml", json!({ "accounts": accounts }))?;
        write(
            "policy.yml",
            json!({ "policies": [{ "name": "inspect", "resource": "aws.ec2" }] }),
        )?;
        let began = Instant::now();
        let output = self
            .command(&program)
            .current_dir(&dir)
            .args([
                "run",
                "-c",
                "accounts.yml",
                "-u",
                "policy.yml",
                "-s",
                "out",
                "--region",
                REGION,
            ])
            .output()?;
        let seconds = began.elapsed().as_secs_f64();
        fs::write(dir.join("log.txt"), &output.stderr)?;
        let reached = fs::read_dir(dir.join("out")).map_or(0, Iterator::count);
        ensure!(
            reached > ACCOUNTS / 2,
            "c7n-org reached {reached} accounts only: see {}",
            dir.display()
        );
        Ok(Some(seconds))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.key)
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_DEFAULT_REGION", REGION);
        command
    }
}
