//! The command line of `orglift-agent`.

use std::{
    collections::BTreeMap, error::Error, ffi::OsString, fmt::Write as _, path::PathBuf, process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use domain::checkpoint::CheckpointNumber;
use identity::{Role, credentials::fingerprint};
use protocol::enrol::Token;
use tracing_subscriber::EnvFilter;

use crate::{
    check,
    checkpoint::{guard, trial::Trial, watch},
    config::Config,
    disks::Roots,
    doctor::{Doctor, Enrolled},
    install,
    layout::{DEFAULT_DIR, Layout},
    names, own_writes, run,
    session::Pace,
    status, uninstall,
    verify::Verify,
};

#[derive(Debug, Parser)]
#[command(
    name = "orglift-agent",
    version,
    about = "Replicates this server to its Orglift runner, block by block"
)]
struct Cli {
    /// The folder with the agent's identity and state.
    #[arg(long, global = true, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrols this server with a runner and starts replication.
    Install(InstallArgs),
    /// Replicates until it is stopped; the service runs this.
    Run {
        /// Seconds after which a first copy is saved at the latest; a fault costs no more than that.
        #[arg(long, value_name = "SECONDS", default_value_t = 60,
            value_parser = clap::value_parser!(u64).range(1..=3600))]
        save_every: u64,
    },
    /// Shows what the agent is doing.
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Thaws file systems and applications that an agent left frozen.
    Thaw,
    /// Freezes this server's file systems for a moment, as a checkpoint does, and says how long it took.
    TryFreeze {
        /// The disks whose file systems to freeze; all if none is named.
        #[arg(long, value_name = "PATH,…", value_delimiter = ',')]
        devices: Vec<PathBuf>,
        /// How long to stay frozen.
        #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
        hold: f64,
        /// After how long to thaw in any case.
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        longest: f64,
    },
    /// Stands by to thaw what the agent that started this has frozen.
    #[command(hide = true, name = guard::SUBCOMMAND)]
    Guard,
    /// Says of each disk whether its changes can be tracked, or why it would be rescanned.
    Check {
        /// The disks to look at; all physical ones if none is named.
        #[arg(value_name = "PATH")]
        devices: Vec<PathBuf>,
    },
    /// Says whether the network lets this server replicate: reachability, TLS, path MTU, throughput, clock.
    ///
    /// Before the installation give it what you will give `install`; once an agent is installed it knows by itself. It
    /// changes nothing. Ends with 0 if all is well, 1 if something needs a hand, 2 if it was called wrongly.
    Doctor(DoctorArgs),
    /// Compares the disks with a checkpoint, block by block, and names the blocks that differ.
    Verify {
        /// The checkpoint's number; the newest that can be launched if it is left out.
        #[arg(long, value_name = "NUMBER")]
        checkpoint: Option<u64>,
        /// The disks to compare, as the checkpoint names them; all if none is named.
        #[arg(value_name = "PATH")]
        disks: Vec<PathBuf>,
    },
    /// Stops the agent and removes its identity and state. Disconnect the server in the console, too.
    Uninstall,
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// The runner's address, as the console shows it; its enrolment port if that is not 443.
    #[arg(long, value_name = "HOST[:PORT]")]
    runner: String,
    /// The one-time enrolment token from the console.
    #[arg(long, value_name = "TOKEN", env = "ORGLIFT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the token, so that it shows in no list of processes.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The runner's port for replication.
    #[arg(long, value_name = "PORT", default_value_t = protocol::DATA_PORT)]
    data_port: u16,
    /// The disks to replicate; image files and loop devices are only taken when they are named here.
    #[arg(long, value_name = "PATH,…", value_delimiter = ',')]
    devices: Vec<PathBuf>,
    /// Asks nothing: takes all disks, or those of --devices.
    #[arg(long)]
    no_prompt: bool,
    /// Tags for the source server.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    tags: Vec<String>,
    /// A name of your own for this server, such as the one in an import file.
    #[arg(long, value_name = "ID")]
    user_provided_id: Option<String>,
    /// Makes the server known, and leaves replication stopped until it is started in the console.
    #[arg(long)]
    no_replication: bool,
    /// Replaces an installation: this server becomes a new source server, and is copied anew.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// The runner's address, as the console shows it; its enrolment port if that is not 443.
    #[arg(long, value_name = "HOST[:PORT]")]
    runner: Option<String>,
    /// The runner's port for replication.
    #[arg(long, value_name = "PORT")]
    data_port: Option<u16>,
    /// A file with an enrolment token: of it, only whom to trust is read, and it is not used up.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Runs the program with `args`, the first of which is its name.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to the standard output, and are no failure.
            let printed = error.print();
            return if error.use_stderr() || printed.is_err() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    identity::install_crypto_provider();
    let filter = EnvFilter::try_from_env("ORGLIFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        // It would tell on standard error, and panic where that is a file on a full disk.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(own_writes::Log)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .finish();
    // Another program that runs this one inside itself may have set its own.
    let _set = tracing::subscriber::set_global_default(subscriber);
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let layout = Layout::new(absolute(&cli.dir)?);
    match cli.command {
        Command::Install(args) => runtime()?.block_on(install::install(&layout, wishes(args)?)),
        Command::Run { save_every } => {
            let pace = Pace {
                partial_every: Duration::from_secs(save_every),
                ..Pace::default()
            };
            runtime()?.block_on(run::run(layout, pace))
        }
        Command::Status { json } => {
            print!("{}", status::show(&layout, json)?);
            Ok(())
        }
        Command::Thaw => {
            print!("{}", run::thaw(&layout)?);
            Ok(())
        }
        Command::TryFreeze {
            devices,
            hold,
            longest,
        } => {
            let seconds = |number| Duration::try_from_secs_f64(number).context("not a number of seconds");
            let trial = Trial {
                devices,
                hold: seconds(hold)?,
                longest: seconds(longest)?,
                mark: layout.frozen_file_systems(),
            };
            print!("{}", trial.run()?);
            Ok(())
        }
        Command::Guard => watch::run(),
        Command::Check { devices } => {
            print!("{}", check::check(&Roots::default(), &devices)?);
            Ok(())
        }
        Command::Doctor(args) => {
            let report = runtime()?.block_on(doctor(&args, &layout)?.run());
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{}", report.table());
            }
            match report.needing_a_hand() {
                0 => Ok(()),
                1 => anyhow::bail!("one check needs a hand"),
                count => anyhow::bail!("{count} checks need a hand"),
            }
        }
        Command::Verify { checkpoint, disks } => {
            let verify = Verify {
                checkpoint: checkpoint.map(CheckpointNumber),
                disks,
            };
            if !runtime()?.block_on(verify.run(layout))? {
                anyhow::bail!("the disks differ from the checkpoint");
            }
            Ok(())
        }
        Command::Uninstall => {
            if uninstall::uninstall(&layout)? {
                println!("The Orglift agent was removed from this server.");
            } else {
                println!("No Orglift agent is installed in {}.", layout.dir().display());
            }
            Ok(())
        }
    }
}

fn doctor(args: &DoctorArgs, layout: &Layout) -> anyhow::Result<Doctor> {
    let wrong = |message: String| -> ! {
        // With 2, as for every other wrong usage.
        Cli::command()
            .error(clap::error::ErrorKind::ValueValidation, message)
            .exit()
    };
    let installed = match (
        Config::load(layout)?,
        identity::Credentials::load(&layout.credentials())?,
    ) {
        (Some(config), Some(credentials)) => Some((config, credentials)),
        _ => None,
    };
    let (runner_host, enrol_port) = match (&args.runner, &installed) {
        (Some(runner), _) => names::split_host_port(runner, protocol::ENROL_PORT)
            .unwrap_or_else(|| wrong(format!("{runner:?} is not a host or host:port"))),
        (None, Some((config, _))) => (config.runner_host.clone(), protocol::ENROL_PORT),
        (None, None) => wrong("no agent is installed here: say where the runner is by --runner".into()),
    };
    let mut authority = None;
    if let Some(file) = &args.token_file {
        let token: Token = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token from {}", file.display()))?
            .parse()?;
        authority = Some(token.ca_sha256);
    }
    let mut data_port = args.data_port.unwrap_or(protocol::DATA_PORT);
    let mut enrolled = None;
    // What is installed says nothing of another runner.
    if let Some((config, credentials)) = installed
        && config.runner_host == runner_host
    {
        if authority.is_none() {
            authority = Some(fingerprint(credentials.ca_pem())?);
        }
        data_port = args.data_port.unwrap_or(config.data_port);
        let Role::Agent(server) = credentials.own()?.role else {
            anyhow::bail!(
                "the certificate in {} is not an agent's",
                layout.credentials().display()
            );
        };
        enrolled = Some(Enrolled {
            config: Config { data_port, ..config },
            credentials,
            server,
        });
    }
    Ok(Doctor {
        runner_host,
        enrol_port,
        data_port,
        authority,
        enrolled,
    })
}

fn absolute(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(dir).with_context(|| format!("cannot use the folder {}", dir.display()))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn wishes(args: InstallArgs) -> anyhow::Result<install::Wishes> {
    let token = match (args.token_file, args.token) {
        (Some(file), _) => Some(
            std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read the token from {}", file.display()))?,
        ),
        (None, token) => token,
    };
    let (runner_host, enrol_port) = names::split_host_port(&args.runner, protocol::ENROL_PORT)
        .with_context(|| format!("{:?} is not a host or host:port", args.runner))?;
    Ok(install::Wishes {
        runner_host,
        enrol_port,
        data_port: args.data_port,
        token,
        devices: args.devices,
        ask: !args.no_prompt,
        tags: tags(&args.tags)?,
        user_provided_id: args.user_provided_id,
        replicate: !args.no_replication,
        replace: args.force,
    })
}

fn tags(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|tag| match tag.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => anyhow::bail!("{tag:?} is not a tag of the form KEY=VALUE"),
        })
        .collect()
}

/// An error and what caused it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let this = error.to_string();
        // Errors that pass another on often say the same again.
        if !text.ends_with(&this) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {this}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn installation_flags_are_those_of_the_manual() {
        let cli = Cli::try_parse_from([
            "orglift-agent",
            "install",
            "--runner",
            "10.0.0.7:8443",
            "--token",
            "t",
            "--devices",
            "/dev/sda,/x.raw",
            "--no-prompt",
            "--tags",
            "a=1",
            "b=2",
            "--user-provided-id",
            "web-1",
            "--no-replication",
            "--dir",
            "/d",
        ])
        .unwrap();
        assert_eq!(cli.dir, PathBuf::from("/d"));
        let Command::Install(args) = cli.command else {
            panic!()
        };
        let wishes = wishes(args).unwrap();
        assert_eq!(
            (wishes.runner_host.as_str(), wishes.enrol_port),
            ("10.0.0.7", 8443)
        );
        assert_eq!(wishes.devices.len(), 2);
        assert_eq!(wishes.tags["b"], "2");
        assert!(!wishes.ask && !wishes.replicate);
        assert!(tags(&["novalue".into()]).is_err());
    }
}
