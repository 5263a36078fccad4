//! The command line of `orglift-runner`.

use std::{
    collections::BTreeSet, ffi::OsString, net::SocketAddr, num::NonZeroU64, path::PathBuf, process::ExitCode,
    sync::Arc, time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use clap::{Args, Parser, Subcommand};
use cloud::snapshots::SnapshotStore;
use domain::{digest::Digest, ids::SourceServerId};
use protocol::exchange::Observed;
use tracing_subscriber::EnvFilter;

use crate::{
    convert::{
        command::{self, ConvertArgs, Subject},
        conversion,
        sandbox::inside,
    },
    damage::{self, Blocks, Damaged},
    export::{self, Meter, Which},
    files,
    ledger::read_checkpoints,
    run::{self, OBSERVED_FILE, Options, Proof, STORE_FILE},
    scrub::{Finding, Pace, Scrub},
    server::server_dir,
    store,
};

/// Receives the disks of source servers and keeps them as checkpoints.
#[derive(Debug, Parser)]
#[command(name = "orglift-runner", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until it is told to stop.
    Run(RunArgs),
    /// Writes a disk of a checkpoint to a file, as a raw image.
    Export(ExportArgs),
    /// Says what would keep a source server from booting as an instance, and changes nothing.
    Inspect {
        #[command(flatten)]
        subject: Box<Subject>,
        #[command(flatten)]
        place: Place,
    },
    /// Converts a checkpoint into disks that boot as an instance, and says what it changed.
    Convert {
        #[command(flatten)]
        args: Box<ConvertArgs>,
        #[command(flatten)]
        place: Place,
    },
    /// Reads all that is kept of a source server, and says what of it is damaged.
    Scrub(ScrubArgs),
    /// Lists the checkpoints of a source server.
    Checkpoints {
        #[arg(long)]
        server: SourceServerId,
        #[command(flatten)]
        dir: Dir,
    },
    /// Says how replication stands, as the running runner reported last.
    Status {
        #[command(flatten)]
        dir: Dir,
    },
    /// Runs a program of a guest: the runner itself starts it so, in new namespaces.
    #[command(hide = true)]
    InSandbox,
    /// Works on clones of a server's disks: the runner itself starts it so.
    #[command(hide = true)]
    InConversion,
}

#[derive(Debug, Args)]
struct Dir {
    /// The runner's state.
    #[arg(long, default_value = "/var/lib/orglift/runner")]
    dir: PathBuf,
}

/// Where checkpoints are.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    dir: Dir,
    /// By default, the store that the runner used last.
    #[arg(long)]
    store: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    dir: Dir,
    /// The hub's machine API.
    #[arg(long, value_name = "HOST:PORT")]
    hub: String,
    /// A file with the enrolment token, needed once. `ORGLIFT_TOKEN` in the environment serves as well.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Enrol by the role that AWS gives this machine, in this region, in place of a token.
    #[arg(
        long,
        value_name = "REGION",
        requires = "hub_ca",
        conflicts_with = "token_file"
    )]
    aws_identity: Option<String>,
    /// SHA-256 of the certificate of the hub's authority, as `orglift-hub ca` prints it.
    #[arg(long, value_name = "HEX")]
    hub_ca: Option<Digest>,
    /// Where snapshots are kept: layers:PATH, layers:PATH?limit=BYTES, ebs:REGION or ebs:REGION:KEY.
    #[arg(long)]
    store: String,
    /// Where checkpoints' manifests and digests are kept besides, so that a new machine goes on without a first copy:
    /// s3:REGION:BUCKET, s3:REGION:BUCKET/PREFIX or folder:PATH. A runner without a state takes up what it finds there.
    #[arg(long)]
    index: Option<String>,
    /// Where agents replicate to.
    #[arg(long, default_value = "0.0.0.0:1500")]
    data_listen: SocketAddr,
    /// Where agents enrol.
    #[arg(long, default_value = "0.0.0.0:443")]
    enrol_listen: SocketAddr,
    /// The address that agents are told; by default, the one by which the hub is reached.
    #[arg(long)]
    address: Option<String>,
    /// How fast all that is kept is read, over and over, to find damage before a cutover does. 0: it is not. By default
    /// 20, and 0 on EBS, which keeps checksums itself and where each read costs money.
    #[arg(long, value_name = "N")]
    scrub_mib_per_second: Option<u32>,
    /// How often the newest checkpoint of a server is looked at, to say what would keep it from booting as an instance.
    /// 0: never.
    #[arg(long, value_name = "N", default_value_t = 24)]
    inspect_every_hours: u32,
}

#[derive(Debug, Args)]
struct ScrubArgs {
    server: SourceServerId,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[arg(long)]
    server: SourceServerId,
    /// Its number, or `latest`.
    #[arg(long, default_value = "latest")]
    checkpoint: Which,
    /// The disk's identifier, or its name on the source server.
    #[arg(long)]
    disk: String,
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// fuser cries out when a worker is gone before its last answer, which is how each of them ends.
const LOGGED: &str = "info,fuser=off";

pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to a pipe that may be closed.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Command::InSandbox = cli.command {
        // It has no log, no threads and no keys.
        return inside::main();
    }
    if let Command::InConversion = cli.command {
        // Its mounts are its own, and must not be seen by a thread that was there before.
        return conversion::main_inside();
    }
    let filter = EnvFilter::try_from_env("ORGLIFT_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let logging = tracing_subscriber::fmt()
        // It would tell on standard error, and panic where that is a file on a full disk.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // Fails if this process has logging already, which is as good.
    drop(logging.try_init());
    identity::install_crypto_provider();
    match tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(execute(cli.command)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orglift-runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run::run(args.options()?).await,
        Command::Export(args) => export_disk(args).await,
        Command::Inspect { subject, place } => {
            command::inspect(*subject, &place.dir.dir, place.open_store().await?).await
        }
        Command::Convert { args, place } => {
            command::convert(*args, &place.dir.dir, place.open_store().await?).await
        }
        Command::Scrub(args) => scrub_server(args).await,
        Command::Checkpoints { server, dir } => list_checkpoints(&server, &dir),
        Command::Status { dir } => show_status(&dir),
        Command::InSandbox | Command::InConversion => anyhow::bail!("it starts without a runtime"),
    }
}

impl RunArgs {
    fn options(self) -> anyhow::Result<Options> {
        let proof = match (self.aws_identity, self.hub_ca, self.token_file) {
            (Some(region), Some(ca), _) => Proof::Identity {
                region,
                ca_sha256: ca.0,
            },
            (_, _, Some(file)) => Proof::Token(
                std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read the token file {}", file.display()))?,
            ),
            _ => std::env::var("ORGLIFT_TOKEN").map_or(Proof::Nothing, Proof::Token),
        };
        let scrub = self
            .scrub_mib_per_second
            .unwrap_or(if store::is_paid_by_read(&self.store) {
                0
            } else {
                20
            });
        Ok(Options {
            dir: self.dir.dir,
            hub: self.hub,
            proof,
            store: self.store,
            index: self.index,
            data_listen: self.data_listen,
            enrol_listen: self.enrol_listen,
            address: self.address,
            inspect_every: (self.inspect_every_hours > 0)
                .then(|| Duration::from_hours(u64::from(self.inspect_every_hours))),
            scrub_bytes_per_second: NonZeroU64::new(u64::from(scrub) << 20),
        })
    }
}

impl Place {
    async fn open_store(&self) -> anyhow::Result<Arc<dyn SnapshotStore>> {
        if let Some(name) = &self.store {
            return store::open(name, &self.dir.dir).await;
        }
        let kept = files::read(&self.dir.dir.join(STORE_FILE))?;
        let kept = kept.context("no runner has run here: say where its snapshots are by --store")?;
        let name = String::from_utf8(kept).context("the name of the store is damaged: give it by --store")?;
        store::open(&name, &self.dir.dir).await
    }
}

async fn export_disk(args: ExportArgs) -> anyhow::Result<()> {
    let store = args.place.open_store().await?;
    let held = export::hold(&args.place.dir.dir, &args.server, args.checkpoint)?;
    let disk = export::disk(&held.checkpoint, &args.disk)?;
    let mut meter = Meter::new(disk.bytes);
    export::export(&*store, disk, &args.to, |done| meter.show(done)).await?;
    println!(
        "{}: {} bytes of {} ({}), checkpoint {} of {}",
        args.to.display(),
        disk.bytes,
        disk.device_name,
        disk.disk,
        held.checkpoint.number,
        time(held.checkpoint.taken_at_ms),
    );
    Ok(())
}

async fn scrub_server(args: ScrubArgs) -> anyhow::Result<()> {
    let store = args.place.open_store().await?;
    let folder = server_dir(&args.place.dir.dir, &args.server);
    if !folder.join("checkpoints").exists() {
        anyhow::bail!("nothing is kept here of source server {}", args.server);
    }
    let mut scrub = Scrub::begin(store, &folder, Pace::Unlimited).await?;
    let mut found = Blocks::new();
    while let Some(finding) = scrub.next().await? {
        let Finding {
            checkpoint,
            disk,
            block,
            damaged: Damaged { file, detail, .. },
        } = finding;
        let (name, file) = (disk.device_name, file.display());
        println!("block {block} of {name} in checkpoint {checkpoint} is damaged in {file}: {detail}");
        found.entry(disk.disk).or_default().insert(block);
    }
    let read = scrub.blocks_read;
    let count: usize = found.values().map(BTreeSet::len).sum();
    if count > 0 {
        // A running runner has them sent again.
        damage::report(&folder, &found)?;
        anyhow::bail!("{count} blocks are damaged; {read} were read");
    }
    println!("{read} blocks were read, and none is damaged");
    Ok(())
}

fn list_checkpoints(server: &SourceServerId, dir: &Dir) -> anyhow::Result<()> {
    let folder = server_dir(&dir.dir, server);
    if !folder.join("checkpoints").exists() {
        anyhow::bail!("nothing is kept here of source server {server}");
    }
    for checkpoint in read_checkpoints(&folder)? {
        let kind = serde_json::to_value(checkpoint.kind)?;
        println!(
            "{:>6}  {}  {:<10}  {}",
            checkpoint.number,
            time(checkpoint.taken_at_ms),
            kind.as_str().unwrap_or_default(),
            checkpoint.consistency.name(),
        );
        if let Some(damage) = &checkpoint.damage {
            println!("        damaged: {damage}");
        }
        for disk in &checkpoint.disks {
            let bytes = disk.bytes;
            println!(
                "        {}  {}  {bytes} bytes  {}",
                disk.disk, disk.device_name, disk.snapshot
            );
        }
    }
    Ok(())
}

fn show_status(dir: &Dir) -> anyhow::Result<()> {
    let text = files::read(&dir.dir.join(OBSERVED_FILE))?.context("no runner has run here")?;
    let observed: Observed = serde_json::from_slice(&text)?;
    if let Some(free) = observed.staging_free_bytes {
        println!("staging area: {free} bytes free");
    }
    match observed.index_behind {
        Some(0) => println!("index: up to date"),
        Some(behind) => println!("index: {behind} checkpoints behind"),
        None => {}
    }
    for server in &observed.servers {
        let (state, count) = (server.replication.name(), server.checkpoints.len());
        let name = server
            .agent
            .as_ref()
            .map_or("-", |agent| agent.properties.hostname.as_str());
        println!("{}  {name}  {state}  {count} checkpoints", server.id);
        for disk in &server.disks {
            let (name, done, total) = (&disk.device_name, disk.replicated_bytes, disk.total_bytes);
            println!(
                "    {name}  {done} of {total} bytes, {} waiting",
                disk.backlogged_bytes
            );
        }
        if let domain::replication::Replication::Stalled(stall) = &server.replication {
            println!("    {}", stall.detail);
        }
    }
    Ok(())
}

fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).map_or_else(
        || "?".into(),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}
