//! How quick the console is with five thousand accounts and two hundred thousand servers, how much memory the hub takes
//! for it, and how many servers' states it takes in.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use domain::{ids::SourceServerId, replication::Replication};
use identity::{Role, tls};
use protocol::exchange::{Observed, ObservedServer};
use reqwest::{Client, header, redirect};

use self::world::{ACCOUNTS, PER_ACCOUNT, World};
use crate::report::{Report, Samples, Setup};

mod world;

const PASSWORD: &str = "for the bench alone";
/// Of each page.
const LOOKS: usize = 40;
const REPORTING: usize = 8;
const REPORT_FOR: Duration = Duration::from_secs(10);

/// The hub, as a process of its own. It ends with this.
struct Hub {
    process: Child,
    ui: SocketAddr,
    machines: SocketAddr,
}

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    identity::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new()?;
    let begun = Instant::now();
    let world = runtime.block_on(World::make(&setup.dir.join("hub")))?;
    report.note(format!(
        "hub: {ACCOUNTS} accounts, {} source servers, written in {:.0} s",
        ACCOUNTS * PER_ACCOUNT,
        begun.elapsed().as_secs_f64()
    ));
    let hub = Hub::start(setup)?;
    let worst = runtime.block_on(look(&hub, &world, report))?;
    report.row(
        "global view, worst page's p95 in ms",
        format_args!("{worst:.0}"),
        "≤ 100",
        worst <= 100.0,
    );
    let rate = runtime.block_on(reports(&hub, &world))?;
    report.figures("status_reports_per_second", rate);
    report.row(
        "status reports per second into SQLite",
        format_args!("{rate:.0}"),
        "≥ 5,000",
        rate >= 5000.0,
    );
    let mib = hub.peak_mib()?;
    report.figures("hub_peak_mib", mib);
    report.row(
        "the hub's memory in MiB",
        format_args!("{mib:.0}"),
        "≤ 512",
        mib <= 512.0,
    );
    Ok(())
}

impl Hub {
    fn start(setup: &Setup) -> anyhow::Result<Self> {
        let dir = setup.dir.join("hub");
        let mut add = Command::new(&setup.lab)
            .args([
                "hub",
                "user",
                "add",
                "--name",
                "ada",
                "--role",
                "administrator",
                "--password-stdin",
                "--dir",
            ])
            .arg(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start the hub's command")?;
        let mut input = add.stdin.take().context("it has no input")?;
        input.write_all(PASSWORD.as_bytes())?;
        drop(input);
        ensure!(add.wait()?.success(), "a user could not be added");
        let process = Command::new(&setup.lab)
            .args([
                "hub",
                "serve",
                "--ui",
                "127.0.0.1:0",
                "--machines",
                "127.0.0.1:0",
                "--dir",
            ])
            .arg(&dir)
            .arg("--cloud")
            .arg(format!("folder:{}", setup.dir.join("cloud").display()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(setup.dir.join("hub.log"))?)
            .spawn()
            .context("cannot start the hub")?;
        let mut hub = Self {
            process,
            ui: ([127, 0, 0, 1], 0).into(),
            machines: ([127, 0, 0, 1], 0).into(),
        };
        let begun = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(dir.join("listen.json")) {
                let listens: serde_json::Value = serde_json::from_str(&text)?;
                let at = |name: &str| listens[name].as_str().unwrap_or_default().parse();
                (hub.ui, hub.machines) = (at("ui")?, at("machines")?);
                return Ok(hub);
            }
            if begun.elapsed() > Duration::from_mins(2) {
                bail!(
                    "the hub did not start; see {}",
                    setup.dir.join("hub.log").display()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("the kernel does not tell the hub's memory")?
            .parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks at each page again and again, as somebody signed in; the worst of their 95th percentiles.
async fn look(hub: &Hub, world: &World, report: &mut Report) -> anyhow::Result<f64> {
    let address = format!("http://{}", hub.ui);
    let client = Client::builder().redirect(redirect::Policy::none()).build()?;
    let form = format!("name=ada&password={}", PASSWORD.replace(' ', "+"));
    let signed_in = client
        .post(format!("{address}/sign-in"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await?;
    let cookie = signed_in
        .headers()
        .get(header::SET_COOKIE)
        .and_then(|cookie| cookie.to_str().ok())
        .and_then(|cookie| cookie.split(';').next())
        .context("the hub did not let the bench in")?
        .to_owned();
    let (account, organization) = (&world.accounts[1234], &world.organization);
    let pages = [
        ("overview", "/".to_owned()),
        ("organization", format!("/?organization={organization}")),
        (
            "unit",
            format!("/?organization={organization}&unit=Root/Unit-3/Team-7"),
        ),
        ("accounts sought", "/?q=account-12".to_owned()),
        ("account", format!("/accounts/{account}")),
        ("servers", "/servers".to_owned()),
        ("servers, far down", "/servers?page=3500".to_owned()),
        ("servers by lag", "/servers?sort=-lag".to_owned()),
        (
            "servers in a state",
            "/servers?state=READY_FOR_CUTOVER".to_owned(),
        ),
        ("a server sought by name", "/servers?q=web-1234-17".to_owned()),
        ("servers sought by tag", "/servers?q=owner%3Dteam-77".to_owned()),
        ("server", format!("/servers/{}", world.servers[777])),
    ];
    let mut worst = 0.0_f64;
    for (name, path) in pages {
        let mut samples = Samples::default();
        // The first of them finds nothing in memory, and counts.
        for _ in 0..LOOKS {
            let begun = Instant::now();
            let answer = client
                .get(format!("{address}{path}"))
                .header(header::COOKIE, &cookie)
                .send()
                .await?;
            ensure!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.bytes().await?;
            samples.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let slow = samples.percentile(95);
        report.note(format!(
            "{name}: p50 {:.1} ms, p95 {slow:.1} ms",
            samples.median()
        ));
        report.figures(&format!("page_ms {name}"), &samples);
        worst = worst.max(slow);
    }
    Ok(worst)
}

/// Runners report the states of their servers, each of which has moved on; servers in a second.
async fn reports(hub: &Hub, world: &World) -> anyhow::Result<f64> {
    let taken = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut runners = tokio::task::JoinSet::new();
    for (credentials, servers) in world.runners.iter().take(REPORTING) {
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client(credentials)?)
            .resolve(Role::HUB_NAME, hub.machines)
            .build()?;
        let url = format!("https://{}:{}/v1/observed", Role::HUB_NAME, hub.machines.port());
        let (servers, taken) = (servers.clone(), taken.clone());
        runners.spawn(async move {
            let mut round = 0;
            while begun.elapsed() < REPORT_FOR {
                round += 1;
                let answer = client.post(&url).json(&observed(&servers, round)).send().await?;
                ensure!(answer.status().is_success(), "a report: {}", answer.status());
                taken.fetch_add(servers.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(runner) = runners.join_next().await {
        runner??;
    }
    Ok(taken.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

fn observed(servers: &[SourceServerId], round: u64) -> Observed {
    let server = |id: &SourceServerId| ObservedServer {
        id: id.clone(),
        replication: Replication::Continuous,
        agent: None,
        disks: world::disks(round),
        flow: domain::flow::Flow {
            written_bytes_s: round,
            ..domain::flow::Flow::default()
        },
        durable_request: 0,
        checkpoints: Vec::new(),
        inspection: None,
        conversion: None,
        forgotten: false,
    };
    Observed {
        generation: 1,
        runner_version: "0.1.0".into(),
        staging_free_bytes: Some(1 << 40),
        index_behind: None,
        servers: servers.iter().map(server).collect(),
        turned_away: Vec::new(),
    }
}
