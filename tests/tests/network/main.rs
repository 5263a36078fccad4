//! What a firewall request lists is enough, and all of it is needed.
//!
//! Source, staging and hub are networks of their own, and the firewall between them is made of the request as it is
//! printed. A server is replicated through it; with any line taken out, the programs say which.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod site;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{
    process::Process,
    wait::{Look, eventually},
};
use reqwest::{header, redirect::Policy};
use serde_json::Value;
use site::{HUB, Opening, RUNNER, SOURCE, SOURCES, Site, Zone};

const ACCOUNT: &str = "640000000001";
const USER: &str = "viewer";
const PASSWORD: &str = "a-password-that-is-long";
const SOON: Duration = Duration::from_mins(1);

/// What a program printed; it must end well.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.trim().to_owned()
}

/// The lines of the request, as a network team reads them.
fn requested(site: &Site) -> Vec<Opening> {
    let csv = said(site.program(Zone::Hub, "orglift-hub").args([
        "firewall-request",
        "--account",
        ACCOUNT,
        "--source",
        SOURCES,
        "--runner",
        RUNNER,
        "--hub",
        HUB,
    ]));
    // No field of these columns, or before them, has a comma.
    let lines = csv.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split(',').collect();
        Opening {
            source: fields[3].to_owned(),
            destination: fields[4].to_owned(),
            port: fields[6].to_owned(),
        }
    });
    lines.collect()
}

struct Programs {
    agent: Process,
    runner: Process,
    _hub: Process,
    server: String,
}

fn add_user(site: &Site, hub_dir: &str) {
    let mut command = site.program(Zone::Hub, "orglift-hub");
    let who = ["--name", USER, "--role", "viewer", "--password-stdin"];
    command
        .args(["user", "add", "--dir", hub_dir])
        .args(who)
        .stdin(Stdio::piped());
    let mut adding = command.spawn().unwrap();
    adding
        .stdin
        .take()
        .unwrap()
        .write_all(PASSWORD.as_bytes())
        .unwrap();
    assert!(adding.wait().unwrap().success());
}

/// Hub, runner and an agent with one disk, installed as people do it.
async fn start(site: &Site) -> Programs {
    let at = |name: &str| site.folder.path().join(name).display().to_string();
    let log = |name: &str| site.folder.path().join(format!("{name}.log"));
    let hub_dir = at("hub");
    let roster = format!("{ACCOUNT}=tenant");
    let organization = [
        "organization",
        "add",
        "--dir",
        &hub_dir,
        "--name",
        "Tenant",
        "--reach",
        "roster",
    ];
    said(site.program(Zone::Hub, "orglift-hub").args(organization).args([
        "--region",
        "eu-central-1",
        "--account",
        &roster,
    ]));
    let token = |purpose: &str| {
        let create = ["token", "create", "--dir", &hub_dir, "--account", ACCOUNT];
        let token = said(
            site.program(Zone::Hub, "orglift-hub")
                .args(create)
                .args(["--purpose", purpose]),
        );
        let file = at(&format!("{purpose}.token"));
        fs::write(&file, token).unwrap();
        file
    };
    let (runner_token, agent_token) = (token("runner"), token("agent"));

    add_user(site, &hub_dir);

    let mut command = site.program(Zone::Hub, "orglift-hub");
    let cloud = format!("folder:{}", at("cloud"));
    command.args(["serve", "--dir", &hub_dir, "--cloud", &cloud]);
    let hub = Process::of(command, "the hub", &log("hub")).unwrap();

    let mut command = site.program(Zone::Staging, "orglift-runner");
    let store = format!("layers:{}", at("store"));
    command.args([
        "run",
        "--dir",
        &at("runner"),
        "--store",
        &store,
        "--token-file",
        &runner_token,
    ]);
    command.args(["--hub", &format!("{HUB}:8443"), "--inspect-every-hours", "0"]);
    let runner = Process::of(command, "the runner", &log("runner")).unwrap();
    let ready = site.folder.path().join("runner/listen.json");
    eventually("the runner is ready", SOON, || async {
        Ok(Look::when(ready.exists(), runner.last_words()))
    })
    .await
    .unwrap();

    let disk = at("disk.raw");
    let noise: Vec<u8> = (0..8 << 20).map(|_| rand::random()).collect();
    fs::write(&disk, noise).unwrap();
    let agent_dir = at("agent");
    said(
        site.program(Zone::Source, "orglift-agent")
            .args([
                "install",
                "--dir",
                &agent_dir,
                "--runner",
                RUNNER,
                "--devices",
                &disk,
            ])
            .args(["--no-prompt", "--token-file", &agent_token]),
    );
    let mut command = site.program(Zone::Source, "orglift-agent");
    command.args(["run", "--dir", &agent_dir]);
    let agent = Process::of(command, "the agent", &log("agent")).unwrap();
    let servers = site.folder.path().join("runner/servers");
    let server = eventually("the runner knows the server", SOON, || async {
        let entry = fs::read_dir(&servers)?.next();
        Ok(match entry {
            Some(entry) => Look::Seen(entry?.file_name().into_string().unwrap()),
            None => Look::NotYet("no folder of a server".into()),
        })
    })
    .await
    .unwrap();
    Programs {
        agent,
        runner,
        _hub: hub,
        server,
    }
}

/// The page of the account, as somebody who signs in on the hub's machine sees it.
async fn account_page() -> reqwest::Result<String> {
    let hub = "http://127.0.0.1:8080";
    let browser = reqwest::Client::builder().redirect(Policy::none()).build()?;
    let signed_in = browser
        .post(format!("{hub}/sign-in"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("name={USER}&password={PASSWORD}"))
        .send()
        .await?;
    let cookie = signed_in.headers()[header::SET_COOKIE].clone();
    let page = browser
        .get(format!("{hub}/accounts/{ACCOUNT}"))
        .header(header::COOKIE, cookie);
    page.send().await?.text().await
}

async fn until_launchable(site: &Site, programs: &Programs) {
    let folder = site.folder.path().join("runner").display().to_string();
    eventually("there is a launchable checkpoint", SOON, || async {
        let mut command = site.program(Zone::Staging, "orglift-runner");
        command.args(["checkpoints", "--dir", &folder, "--server", &programs.server]);
        let listed = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
        let last = (programs.agent.last_words(), programs.runner.last_words());
        Ok(Look::when(listed.contains("launchable"), (listed, last)))
    })
    .await
    .unwrap();
}

/// The exit code, and of each check that needs a hand its name and its remedy.
fn doctor(site: &Site, dir: &Path, more: &[&str]) -> (i32, Vec<(String, String)>) {
    let output = site
        .program(Zone::Source, "orglift-agent")
        .args(["doctor", "--json", "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap().iter();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let found = checks
        .filter(|check| check["verdict"] == "needs_a_hand")
        .map(|check| (text(check, "check"), text(check, "remedy")));
    (output.status.code().unwrap(), found.collect())
}

#[tokio::test]
async fn a_firewall_request_is_enough_and_all_of_it_is_needed() {
    let Some(site) = Site::new() else { return };
    let openings = requested(&site);
    let ports: Vec<_> = openings.iter().map(|line| line.port.as_str()).collect();
    assert_eq!(ports, ["1500", "443", "8443"]);
    site.firewall(&openings).unwrap();
    let programs = start(&site).await;
    until_launchable(&site, &programs).await;

    let (nobody, installed) = (
        site.folder.path().join("nobody"),
        site.folder.path().join("agent"),
    );
    let token = site.folder.path().join("agent.token");
    let before = ["--runner", RUNNER, "--token-file", token.to_str().unwrap()];
    assert_eq!(doctor(&site, &nobody, &before), (0, Vec::new()));
    assert_eq!(doctor(&site, &installed, &[]), (0, Vec::new()));

    for (at, missing) in openings.iter().enumerate() {
        let mut rest = openings.clone();
        rest.remove(at);
        site.firewall(&rest).unwrap();
        let (code, found) = doctor(&site, &nobody, &before);
        if missing.destination.starts_with(HUB) {
            // The source server has no part in it, and its doctor does not guess: the runner says it, and the console.
            assert_eq!((code, found), (0, Vec::new()));
            let log = programs.runner.log();
            let told = fs::read_to_string(log).unwrap().len();
            let wanted = format!("the hub {HUB}:{}", missing.port);
            eventually("the runner names the hub's address", SOON, || async {
                let text = fs::read_to_string(log)?;
                Ok(Look::when(
                    text[told..].contains(&wanted),
                    programs.runner.last_words(),
                ))
            })
            .await
            .unwrap();
            let line = format!("{RUNNER}/32 → {HUB}/32, TCP {}.", missing.port);
            eventually("the account's page names the line", SOON, || async {
                let page = site.inside(Zone::Hub, account_page())?;
                let is_told = page.contains("has not called since") && page.contains(&line);
                Ok(Look::when(is_told, page))
            })
            .await
            .unwrap();
            continue;
        }
        let [(check, remedy)] = &found[..] else {
            panic!("without {missing:?}: {found:?}");
        };
        assert_eq!((code, check.as_str()), (1, "tcp"));
        let named = format!("Allow TCP from {SOURCE} to {RUNNER}, port {}:", missing.port);
        assert!(remedy.starts_with(&named), "{remedy}");
    }
    site.firewall(&openings).unwrap();
    assert_eq!(doctor(&site, &installed, &[]), (0, Vec::new()));
    eventually("nobody is silent", SOON, || async {
        let page = site.inside(Zone::Hub, account_page())?;
        Ok(Look::when(!page.contains("has not called"), page))
    })
    .await
    .unwrap();
    programs.agent.terminate().await.unwrap();
}

#[tokio::test]
async fn a_tunnel_that_swallows_long_packets_is_found() {
    let Some(site) = Site::new() else { return };
    let openings = requested(&site);
    site.firewall(&openings).unwrap();
    let programs = start(&site).await;
    site.swallow_long_packets("1400");
    let nobody = site.folder.path().join("nobody");
    let (code, found) = doctor(&site, &nobody, &["--runner", RUNNER]);
    assert_eq!(code, 1);
    assert!(!found.is_empty());
    for (check, remedy) in found {
        assert_eq!(check, "path-mtu");
        assert!(remedy.contains("mtu lock 1400"), "{remedy}");
    }
    programs.agent.terminate().await.unwrap();
}
