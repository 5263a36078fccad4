//! The server's way: it is replicated while it works, launched for a test in one account, and cut over into another.
//!
//! ```text
//! test account       enrol ─▶ first copy ─▶ boot readiness ─▶ test launch ─▶ look ─▶ boot without conversion ─▶ disconnect
//! cutover account    enrol ─▶ first copy ──────────────────▶ cutover     ─▶ look ─▶ finalize
//! ```
//!
//! A server belongs to the account of the runner that it was enrolled with. So it is enrolled anew for the second, as its
//! operator would do it, and copied again. What is in the record already is not done again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use cloud::folder::machines::{MachineRecord, MachineState};
use domain::{
    conversion::ConversionState,
    ids::{AccountId, SourceServerId},
    launch::Purpose,
};
use member_runner::{
    machine::{Bus, CONSOLE_FILE, Card, Disk, Firmware, Network, Plan, SCREENSHOT_FILE, Writes},
    rehearse::{self, verdict::Verdict},
};
use serde_json::{Value, json};

use super::{
    disk::Debian,
    record::{Arrived, Boot, Evidence, Launched, Leg, Record},
    source::{COMMITTED, Source, committed},
};
use crate::{
    demo::{display::Line, report::left_anywhere},
    process,
    programs::Program,
    wait::{Look, eventually},
    world::{AccountPlan, World, api::Api},
};

/// A few minutes on an idle machine without KVM; an hour where others compile.
const FIRST_COPY_MAX: Duration = Duration::from_hours(2);
/// Checkpoint, conversion, rehearsal and boot.
const LAUNCH_MAX: Duration = Duration::from_mins(30);
const BOOT_MAX: Duration = Duration::from_mins(15);
const SOON: Duration = Duration::from_mins(5);
/// Of PostgreSQL on the instance, where `before` is in place of BEFORE.
const COUNT: &str = "runuser -u postgres -- psql -qAtXc \
    'select count(*) filter (where number <= BEFORE), count(*), max(number) from entry'";

#[derive(Debug)]
pub struct Journey<'a> {
    pub world: Arc<World>,
    /// While it runs.
    pub source: Option<Source>,
    pub source_folder: PathBuf,
    pub record: &'a mut Record,
    pub line: Arc<Line>,
}

impl Journey<'_> {
    pub async fn switch_on(&mut self) -> anyhow::Result<()> {
        let stage = self.begin("make the source server's disk".into());
        let line = self.line.clone();
        let made = tokio::task::spawn_blocking(move || {
            Debian::WITH_A_DATABASE.disk(|step| line.step(&format!("make its disk: {step}")))
        });
        let made = made.await.context("making a disk panicked")??;
        self.end(stage)?;
        let stage = self.begin("start the source server".into());
        self.source = Some(Source::start(&made, &self.source_folder).await?);
        self.end(stage)
    }

    pub async fn switch_off(&mut self) -> anyhow::Result<()> {
        match self.source.take() {
            Some(source) => source.stop().await,
            None => Ok(()),
        }
    }

    pub async fn run(&mut self) -> anyhow::Result<()> {
        for purpose in [Purpose::Test, Purpose::Cutover] {
            if self.leg(purpose).ended {
                continue;
            }
            self.enrol(purpose).await?;
            self.first_copy(purpose).await?;
            self.boot_readiness(purpose).await?;
            self.launch(purpose).await?;
            self.keep_conversion(purpose).await?;
            self.look(purpose).await?;
            match purpose {
                Purpose::Test => {
                    self.boot_unconverted().await?;
                    self.disconnect().await?;
                }
                Purpose::Cutover => self.finalize().await?,
            }
        }
        self.wait_until_clean().await
    }

    async fn enrol(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        if self.leg(purpose).server.is_some() {
            return Ok(());
        }
        let stage = self.begin_in(purpose, "install the agent");
        let account = self.leg(purpose).account.clone();
        let token = self.api().token(&account, "agent").await?;
        let (source, world) = (self.source()?, &self.world);
        let id = source
            .install_agent(&world.plan.programs.agent(), world.runner(&account)?, &token)
            .await?;
        self.leg_mut(purpose).server = Some(id);
        self.end(stage)
    }

    async fn first_copy(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        let stage = self.begin_in(purpose, "first copy");
        let (account, id) = self.server(purpose)?;
        eventually("the server can be launched", FIRST_COPY_MAX, || async {
            let seen = self.api().server(&account, &id).await?;
            let (done, total) = seen.data_replication_info.copied();
            self.line.progress(done, total);
            let copies = ["STOPPED", "NOT_READY"].contains(&seen.life_cycle.state.as_str());
            Ok(Look::when(!copies, &seen))
        })
        .await?;
        self.end(stage)
    }

    /// A launchable checkpoint is looked at by itself, before anybody orders a launch.
    async fn boot_readiness(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        if self.record.readiness.is_some() {
            return Ok(());
        }
        let stage = self.begin_in(purpose, "boot readiness");
        let (_, id) = self.server(purpose)?;
        let shown = eventually("the hub shows boot readiness", LAUNCH_MAX, || async {
            let readiness = self.api().details(&id).await?.readiness;
            Ok(match readiness.findings {
                Some(_) => Look::Seen(readiness),
                None => Look::NotYet(readiness.state),
            })
        })
        .await?;
        self.record.readiness = Some(shown);
        self.end(stage)
    }

    async fn launch(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        if self.leg(purpose).launched.is_some() {
            return Ok(());
        }
        let stage = self.begin_in(purpose, &format!("{} launch", purpose.name()));
        let (account, id) = self.server(purpose)?;
        let job = match self.job_under_way(purpose).await? {
            Some(job) => job,
            None => self.order(purpose).await?,
        };
        let instance = self.api().launched(&account, &job, &id, LAUNCH_MAX).await?;
        let launches = self.api().details(&id).await?.launches;
        let launch = match purpose {
            Purpose::Test => launches.test,
            Purpose::Cutover => launches.cutover,
        };
        let launch = launch.context("the hub does not know what it launched")?;
        self.leg_mut(purpose).launched = Some(Launched {
            job,
            instance,
            checkpoint: launch.checkpoint,
            checkpoint_age_s: launch.checkpoint_age_s(),
        });
        self.end(stage)
    }

    /// What the hub has of the conversion, for those who come after.
    async fn keep_conversion(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        let (_, id) = self.server(purpose)?;
        let launched = self.leg(purpose).launched.as_ref();
        let job = &launched.context("no instance was launched")?.job;
        let conversion = self.api().conversion(&id, job).await?;
        let ConversionState::Done(converted) = conversion.progress else {
            bail!("the launch was not converted: {:?}", conversion.progress);
        };
        let folder = self.evidence(&format!("{}/conversion", purpose.name()))?;
        let mut documents = Vec::new();
        for name in conversion.documents {
            let contents = self.api().document(&id, job, &name).await?;
            let file = folder.join(
                Path::new(&name)
                    .file_name()
                    .context("a document without a name")?,
            );
            fs::write(&file, contents).with_context(|| format!("cannot write {}", file.display()))?;
            documents.push(file);
        }
        self.leg_mut(purpose).converted = Some(Evidence { converted, documents });
        self.record.save()
    }

    /// A launch that was ordered by a run that was interrupted.
    async fn job_under_way(&self, purpose: Purpose) -> anyhow::Result<Option<String>> {
        let (account, id) = self.server(purpose)?;
        let initiated_by = match purpose {
            Purpose::Test => "START_TEST",
            Purpose::Cutover => "START_CUTOVER",
        };
        let jobs = self.api().jobs(&account).await?;
        let job = jobs.into_iter().find(|job| {
            let runs = job.status != "COMPLETED" && job.participant(&id).is_some();
            job.initiated_by == initiated_by && (runs || job.launched(&id).is_some())
        });
        Ok(job.map(|job| job.id))
    }

    async fn order(&mut self, purpose: Purpose) -> anyhow::Result<String> {
        let (account, id) = self.server(purpose)?;
        let smallest = json!({ "instanceType": "t3.micro" });
        self.api().update_launch_settings(&account, &id, smallest).await?;
        self.api().set_conversion(&id, conversion()).await?;
        let operation = match purpose {
            Purpose::Test => "StartTest",
            Purpose::Cutover => {
                let seen = self.api().server(&account, &id).await?;
                if seen.life_cycle.state == "READY_FOR_TEST" {
                    self.api().mark_ready_for_cutover(&account, &id).await?;
                }
                "StartCutover"
            }
        };
        // Read before the checkpoint is asked for, so that the checkpoint must show all of it.
        let before = committed(self.source()?.http).await?;
        self.leg_mut(purpose).committed_before = Some(before);
        self.record.save()?;
        Ok(self.api().launch(operation, &account, &id).await?.id)
    }

    /// Asks the instance itself what it holds.
    async fn look(&mut self, purpose: Purpose) -> anyhow::Result<()> {
        if self.leg(purpose).arrived.is_some() {
            return Ok(());
        }
        let stage = self.begin_in(purpose, "ask the instance for its rows");
        let leg = self.leg(purpose);
        let before = leg.committed_before.context("nobody asked for the last row")?;
        let instance = leg.launched.as_ref().context("no instance was launched")?;
        let instance = instance.instance.clone();
        let place = self.account(purpose)?.place();
        let folder = self.world.cloud.place(&place);
        let machine = eventually("the instance has come up", BOOT_MAX, || async {
            Ok(match folder.machine(&instance)? {
                Some(machine) if machine.state == MachineState::CameUp => Look::Seen(machine),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
        .await?;
        let http = loopback(&machine, 80)?;
        let what = "the instance answers by HTTP, and commits rows";
        let shown = eventually(what, SOON, || async {
            let shown = committed(http).await?;
            Ok(if shown > before {
                Look::Seen(shown)
            } else {
                Look::NotYet(format!("{shown} rows, after {before} at the source"))
            })
        });
        let shown_by_http = shown.await?;
        let counted = Source::login(&self.source_folder, loopback(&machine, 22)?)
            .run(&COUNT.replace("BEFORE", &before.to_string()))
            .await?;
        let [rows_of_before, rows, last_row] = numbers(&counted)?;
        let (console, screenshot) = self.keep(purpose.name(), &folder.instance_folder(&instance))?;
        let arrived = Arrived {
            rows_of_before,
            rows,
            last_row,
            shown_by_http,
            http: format!("http://127.0.0.1:{http}/"),
            console,
            screenshot,
        };
        if !arrived.is_complete(before) {
            bail!(
                "rows are missing: {before} were committed before the checkpoint, and there is {arrived:?}"
            );
        }
        self.leg_mut(purpose).arrived = Some(arrived);
        self.end(stage)
    }

    /// The same checkpoint without its conversion must not come up on the same hardware: otherwise the conversion would
    /// have proved nothing.
    async fn boot_unconverted(&mut self) -> anyhow::Result<()> {
        if self.record.unconverted.is_some() {
            return Ok(());
        }
        let stage = self.begin_in(Purpose::Test, "boot the checkpoint without conversion");
        let (account, id) = self.server(Purpose::Test)?;
        let launched = self.record.test.launched.as_ref();
        let checkpoint = launched.context("no instance was launched")?.checkpoint;
        let evidence = self.evidence("unconverted")?;
        let disk = evidence.join("disk.raw");
        let runner = self.world.runner(&account)?;
        let arguments = [
            ("--dir", runner.dir().as_os_str().to_owned()),
            ("--server", id.to_string().into()),
            ("--checkpoint", checkpoint.to_string().into()),
            ("--disk", "/dev/sda".into()),
            ("--to", disk.clone().into()),
        ];
        let arguments = arguments
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value]);
        let arguments = std::iter::once("export".into()).chain(arguments);
        process::run(&self.world.plan.programs, Program::Runner, arguments, &[]).await?;
        let plan = Plan {
            name: "unconverted".into(),
            cpus: 2,
            memory_mib: 1024,
            firmware: Firmware::Bios,
            disks: vec![Disk {
                file: disk.clone(),
                bus: Bus::Nvme,
                writes: Writes::Dropped,
            }],
            network: Network::NoLink(Card::VirtioNet),
        };
        let outcome = rehearse::rehearse(&plan, None, BOOT_MAX, &evidence).await?;
        fs::remove_file(&disk).with_context(|| format!("cannot remove {}", disk.display()))?;
        self.record.unconverted = Some(Boot {
            came_up: matches!(outcome.verdict, Verdict::CameUp(_)),
            verdict: outcome.verdict.text().to_owned(),
            seconds: Duration::from_millis(outcome.milliseconds).as_secs_f64(),
            console: outcome.console,
            screenshot: outcome.screenshot,
        });
        self.end(stage)
    }

    /// Gives the test account back: no instance, no replication, no agent.
    async fn disconnect(&mut self) -> anyhow::Result<()> {
        let stage = self.begin_in(Purpose::Test, "disconnect, and terminate the test instance");
        let (account, id) = self.server(Purpose::Test)?;
        self.bring_to(Purpose::Test, "DISCONNECTED", "DisconnectFromService")
            .await?;
        let agent_gone = "test ! -e /var/lib/orglift/agent/agent.json";
        let ssh = &self.source()?.ssh;
        eventually("the agent has removed itself", SOON, || async {
            ssh.run(agent_gone).await.map(|_| Look::Seen(()))
        })
        .await?;
        if self.api().details(&id).await?.launches.test.is_some() {
            self.api()
                .launch("TerminateTargetInstances", &account, &id)
                .await?;
        }
        eventually("the test instance is terminated", SOON, || async {
            let test = self.api().details(&id).await?.launches.test;
            Ok(Look::when(test.is_none(), test))
        })
        .await?;
        self.record.test.ended = true;
        self.end(stage)
    }

    async fn finalize(&mut self) -> anyhow::Result<()> {
        let stage = self.begin_in(Purpose::Cutover, "finalize");
        self.bring_to(Purpose::Cutover, "CUTOVER", "FinalizeCutover")
            .await?;
        self.record.cutover.ended = true;
        self.end(stage)
    }

    async fn wait_until_clean(&mut self) -> anyhow::Result<()> {
        let kept = self.record.cutover.launched.iter();
        let kept: Vec<_> = kept.map(|launched| launched.instance.clone()).collect();
        let clean = eventually("nothing but the instance is left", SOON, || async {
            let left = left_anywhere(&self.world, &kept).await?;
            Ok(Look::when(left.is_empty(), left))
        });
        // What is left is in the report.
        drop(clean.await);
        self.record.left = Some(left_anywhere(&self.world, &kept).await?);
        self.record.save()
    }

    fn api(&self) -> &Api {
        &self.world.hub.api
    }

    fn source(&self) -> anyhow::Result<&Source> {
        self.source.as_ref().context("the source server does not run")
    }

    fn leg(&self, purpose: Purpose) -> &Leg {
        match purpose {
            Purpose::Test => &self.record.test,
            Purpose::Cutover => &self.record.cutover,
        }
    }

    fn leg_mut(&mut self, purpose: Purpose) -> &mut Leg {
        match purpose {
            Purpose::Test => &mut self.record.test,
            Purpose::Cutover => &mut self.record.cutover,
        }
    }

    fn account(&self, purpose: Purpose) -> anyhow::Result<&AccountPlan> {
        let id = &self.leg(purpose).account;
        let found = self.world.plan.accounts.iter().find(|account| account.id == *id);
        found.with_context(|| format!("there is no account {id}"))
    }

    fn server(&self, purpose: Purpose) -> anyhow::Result<(AccountId, SourceServerId)> {
        let leg = self.leg(purpose);
        let id = leg.server.clone().context("the server is not enrolled")?;
        Ok((leg.account.clone(), id))
    }

    /// Orders an operation, where a run that was interrupted has not had its effect, and waits for it.
    async fn bring_to(&self, purpose: Purpose, state: &str, operation: &str) -> anyhow::Result<()> {
        let (account, id) = self.server(purpose)?;
        let api = self.api();
        let now = || async { anyhow::Ok(api.server(&account, &id).await?.life_cycle.state) };
        if now().await? != state {
            api.server_operation(operation, &account, &id).await?;
        }
        eventually(&format!("the server is {state}"), SOON, || async {
            let now = now().await?;
            Ok(Look::when(now == state, now))
        })
        .await
    }

    /// A folder for what shows how it went.
    fn evidence(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.record.folder.join("evidence").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Copies an instance's console text and screenshot, which end with it.
    fn keep(&self, name: &str, instance: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
        let folder = self.evidence(name)?;
        let copied = |file: &str| {
            let to = folder.join(file);
            fs::copy(instance.join(file), &to).with_context(|| format!("cannot keep {}", to.display()))?;
            anyhow::Ok(to)
        };
        Ok((copied(CONSOLE_FILE)?, copied(SCREENSHOT_FILE)?))
    }

    fn begin_in(&self, purpose: Purpose, what: &str) -> (String, Instant) {
        self.begin(format!("{}: {what}", self.leg(purpose).account_name))
    }

    fn begin(&self, name: String) -> (String, Instant) {
        self.line.step(&name);
        (name, Instant::now())
    }

    /// Notes a stage, and what it changed in the record.
    fn end(&mut self, (name, began): (String, Instant)) -> anyhow::Result<()> {
        self.record.took(&name, began.elapsed().as_secs_f64());
        self.record.save()
    }
}

/// Disks are converted and rehearsed: the web server must answer, for which it gets as long as an instance does.
fn conversion() -> Value {
    let answers = json!({ "http": { "path": COMMITTED, "status": 200 } });
    json!({
        "convert": true,
        "rehearsal": {
            "timeLimitS": BOOT_MAX.as_secs(),
            "probe": { "port": 80, "expects": answers },
        },
    })
}

fn loopback(machine: &MachineRecord, port: u16) -> anyhow::Result<u16> {
    let forward = machine.forwards.iter().find(|forward| forward.instance == port);
    Ok(forward
        .with_context(|| format!("port {port} of the instance is not forwarded"))?
        .loopback)
}

/// `98|120|120`
fn numbers(line: &str) -> anyhow::Result<[u64; 3]> {
    let numbers: Vec<u64> = line
        .trim()
        .split('|')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("the database answers {line:?}"))?;
    let counted = numbers.try_into();
    counted
        .ok()
        .with_context(|| format!("the database answers {line:?}"))
}
