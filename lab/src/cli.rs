//! `orglift-lab`: the command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use agent::checkpoint::guard;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use cloud::folder::machines::Instances;
use member_runner::convert::{sandbox, worker};
use tracing_subscriber::EnvFilter;

use crate::{
    aws,
    debian::Move,
    demo::{Demo, options::Choice},
    programs::Program,
    replicate::{AfterFirst, Replicate},
};

/// Shows what Orglift does, on this machine alone: six servers move into four accounts, or one real one does.
#[derive(Debug, Parser)]
#[command(name = "orglift-lab", version, args_conflicts_with_subcommands = true)]
// Flags are truth values.
#[allow(clippy::struct_excessive_bools)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Exit when finished: 0 if every server arrived equal and nothing was left behind.
    #[arg(long)]
    once: bool,
    /// Write the closing table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder that holds everything; a lab that is there goes on [default: orglift-lab, or orglift-debian].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Move a real Debian server instead, which is made and boots on old hardware; its instances boot. Needs root, QEMU,
    /// debootstrap and about twenty minutes without KVM.
    #[arg(long, conflicts_with_all = ["accounts", "servers", "disk_mib", "boot", "seed", "by_hand"])]
    debian: bool,
    /// The console's port on 127.0.0.1 [default: 8080, or any if that is taken].
    #[arg(long)]
    port: Option<u16>,
    /// Accounts of the organization; a tenant of its own comes on top [default: 3].
    #[arg(long, value_name = "N")]
    accounts: Option<u32>,
    /// Source servers, spread over the accounts [default: 6].
    #[arg(long, value_name = "N")]
    servers: Option<u32>,
    /// Size of a boot disk; data disks are half as large again [default: 64].
    #[arg(long, value_name = "N")]
    disk_mib: Option<u64>,
    /// Only replicate: what is launched, and when, is up to you, in the console.
    #[arg(long)]
    by_hand: bool,
    /// Boot the instances that are launched, with QEMU. Hidden as long as the lab has no source disk that boots: an
    /// instance whose machine does not come up fails its launch.
    #[arg(long, hide = true)]
    boot: bool,
    /// The same seed makes the same disks [default: 1].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replicates disks without a hub: agent, runner and layers, nothing else.
    Replicate(ReplicateArgs),
    /// Answers as AWS does, as far as Orglift uses it, for clients such as the AWS CLI, until Ctrl-C.
    Aws(AwsArgs),
}

#[derive(Debug, Args)]
struct AwsArgs {
    /// The folder for everything; what an earlier run left there is replaced.
    #[arg(long)]
    dir: PathBuf,
    /// The port on 127.0.0.1; any free one if it is 0.
    #[arg(long, default_value_t = 4566)]
    port: u16,
}

#[derive(Debug, Args)]
struct ReplicateArgs {
    /// A block device or an image file; may be given several times.
    #[arg(long, value_name = "DEVICE_OR_FILE", required = true, num_args = 1..)]
    source: Vec<PathBuf>,
    /// The folder that holds everything; replication that was begun there goes on.
    #[arg(long)]
    dir: PathBuf,
    /// Keep taking checkpoints for so long after the first.
    #[arg(long, value_name = "SECONDS")]
    follow: Option<f64>,
    /// Take a checkpoint for each line on the standard input, and answer with a line of JSON, until it ends.
    #[arg(long, conflicts_with = "follow")]
    ask: bool,
    /// Run the agent as a process of its own.
    #[arg(long)]
    agent_apart: bool,
    /// Write the last checkpoint as raw images, one for each source.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    export: Vec<PathBuf>,
}

/// Runs the program with `args`, the first of which is its name. `orglift-lab hub …`, `runner …` and
/// `agent …` are those programs, for the processes of the lab.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    // Copied to a server by the name of the agent, this is the agent.
    let name = args.first().and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == Program::Agent.binary()) {
        return agent::cli::main_from(args);
    }
    match args.get(1).and_then(|word| word.to_str()) {
        Some("hub") => return hub::cli::main_from(args.into_iter().skip(1)),
        Some("runner") => return member_runner::cli::main_from(args.into_iter().skip(1)),
        Some("agent") => return agent::cli::main_from(args.into_iter().skip(1)),
        // An agent within this program starts it once more, and a runner does for what it must not do itself.
        Some(guard::SUBCOMMAND) => return agent::cli::main_from(args),
        Some(sandbox::inside::COMMAND | worker::inside::COMMAND) => {
            return member_runner::cli::main_from(args);
        }
        _ => {}
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version come this way, too.
            let printed = usage.print();
            return if usage.use_stderr() || printed.is_err() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orglift-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl ReplicateArgs {
    fn replicate(self) -> anyhow::Result<Replicate> {
        let follow = self.follow.map(Duration::try_from_secs_f64).transpose();
        let after_first = match follow.context("--follow takes a number of seconds")? {
            Some(time) => AfterFirst::Follow(time),
            None if self.ask => AfterFirst::Ask,
            None => AfterFirst::Stop,
        };
        Ok(Replicate {
            sources: self.source,
            dir: self.dir,
            after_first,
            agent_apart: self.agent_apart,
            export: self.export,
        })
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    // The lab's own output is what people came for; warnings of agent and runner in `replicate` go beside it.
    let filter = EnvFilter::try_from_env("ORGLIFT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        // It would tell on standard error, and panic where that is a file on a full disk.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(agent::own_writes::Log)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    identity::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command {
        Some(Command::Replicate(args)) => return runtime.block_on(args.replicate()?.run()),
        Some(Command::Aws(args)) => return runtime.block_on(aws::serve(&args.dir, args.port)),
        None => {}
    }
    if cli.debian {
        let server = Move {
            dir: cli.dir.unwrap_or_else(|| "orglift-debian".into()),
            port: cli.port,
            once: cli.once,
            json: cli.json,
        };
        let moved = runtime.block_on(server.run());
        // Whoever stops the lab while a disk is made does not wait for it: making it goes on next time.
        runtime.shutdown_background();
        return moved;
    }
    let demo = Demo {
        dir: cli.dir.unwrap_or_else(|| "orglift-lab".into()),
        choice: Choice {
            accounts: cli.accounts,
            servers: cli.servers,
            disk_mib: cli.disk_mib,
            seed: cli.seed,
        },
        port: cli.port,
        instances: if cli.boot {
            Instances::Booted
        } else {
            Instances::Recorded
        },
        once: cli.once,
        by_hand: cli.by_hand,
        json: cli.json,
    };
    runtime.block_on(demo.run())
}
