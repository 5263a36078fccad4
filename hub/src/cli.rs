//! `orglift-hub`: the command line.
//!
//! `organization`, `user`, `key`, `token` and `audit` work on the hub's folder and database directly, whether the hub runs or not;
//! `firewall-request` needs nothing but its arguments.

mod accounts;
mod audit;
mod backup;
mod home;
mod organization;
mod readiness;
mod resources;
mod selection;
mod user;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};
use domain::{digest::Digest, ids::AccountId, network::cidr::Cidr};
use tracing_subscriber::EnvFilter;

use self::{
    accounts::AccountsCommand, audit::AuditCommand, home::Home, organization::OrganizationCommand,
    readiness::ReadinessArgs, resources::ResourcesArgs, user::UserCommand,
};
use crate::{
    audit::COMMAND_LINE,
    auth::keys,
    configuration::Configuration,
    entities::token::TokenPurpose,
    firewall_request::{self, aws_ranges},
    onboarding::cli::{self as onboarding, OnboardingArgs},
    pki::Pki,
    serve::{MACHINES_PORT, ServeOptions, serve},
    tokens,
};

/// Moves running servers into many accounts, from one console.
#[derive(Debug, Parser)]
#[command(name = "orglift-hub", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How the log is written to standard error. `ORGLIFT_LOG` says how much of it, as `info,hub=debug`.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    /// An object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub.
    Serve(Serve),
    /// Organizations and rosters: the accounts that servers are moved into.
    #[command(subcommand)]
    Organization(OrganizationCommand),
    /// The accounts of all organizations: whether they can be entered.
    #[command(subcommand)]
    Accounts(AccountsCommand),
    /// Read the network around the runner of every account, and name what keeps servers from being replicated: the
    /// resource, what is the matter, and the change. Exits with 0 if all are ready, 5 if some are not, 3 if some could
    /// not be read, 4 if none could.
    Readiness(Box<ReadinessArgs>),
    /// Ask every account what it has of ours, and name what nothing needs, and what to do about it. Removes nothing. Exits
    /// with 0 if all have what is needed and no more, 5 if some have not, 3 if some could not be asked, 4 if none could.
    Resources(Box<ResourcesArgs>),
    /// Users who sign in to the console, and what they may do where.
    #[command(subcommand)]
    User(UserCommand),
    /// Keys for the API.
    #[command(subcommand)]
    Key(KeyCommand),
    /// One-time tokens with which machines enrol.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The audit log: who did what, when, to what, and what came of it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Copy all that the hub must not lose into a folder, while it runs: its records in SQLite, its authority, its settings.
    Backup(backup::Backup),
    /// Make a hub's folder out of a backup.
    Restore(backup::Restore),
    /// Print the SHA-256 of the certificate of the hub's authority, by which runners know their hub.
    Ca(Dir),
    /// Print the firewall request for the network team: every connection that the programs open, and no other.
    ///
    /// CSV is UTF-8 with a byte order mark, so that Excel opens it as it is. Needs neither the hub's folder nor a cloud.
    FirewallRequest(FirewallRequest),
    /// What the administrator of an account deploys so that servers can be moved into it.
    Onboarding(Box<OnboardingArgs>),
}

#[derive(Debug, Args)]
struct Dir {
    /// The folder that holds the hub's state.
    #[arg(long, default_value = "/var/lib/orglift/hub")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    options: ServeOptions,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make an API key and print it; it cannot be shown again.
    Add {
        #[command(flatten)]
        home: Home,
        #[arg(long)]
        user: String,
        /// What it is for.
        #[arg(long, default_value = "command line")]
        name: String,
        /// After how many days it ends. Without it, it ends when it is removed.
        #[arg(long)]
        days: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it cannot be shown again.
    Create {
        #[command(flatten)]
        home: Home,
        #[arg(long)]
        account: AccountId,
        #[arg(long, value_enum, default_value = "agent")]
        purpose: TokenPurpose,
        /// Seconds until it expires.
        #[arg(long, default_value_t = 3600)]
        ttl: u64,
    },
}

#[derive(Debug, Args)]
struct FirewallRequest {
    /// The member account of the runner.
    #[arg(long)]
    account: AccountId,
    /// Where source servers are; give it once for each range.
    #[arg(long = "source", value_name = "CIDR", required = true)]
    sources: Vec<Cidr>,
    /// The runner's address, or the range of its subnet; give it once for each.
    #[arg(long = "runner", value_name = "CIDR", required = true)]
    runners: Vec<Cidr>,
    /// The hub's address.
    #[arg(long, value_name = "CIDR")]
    hub: Cidr,
    /// Where runners reach the hub: the port of `serve --machines`.
    #[arg(long, value_name = "PORT", default_value_t = MACHINES_PORT)]
    hub_port: u16,
    /// The runner's port for replication.
    #[arg(long, value_name = "PORT", default_value_t = protocol::DATA_PORT)]
    data_port: u16,
    /// The runner's port for enrolment.
    #[arg(long, value_name = "PORT", default_value_t = protocol::ENROL_PORT)]
    enrol_port: u16,
    /// The first day of the period, such as 2026-12-01.
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// The last day of the period.
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,
    /// The file ip-ranges.json of AWS, where the runner reaches AWS over the internet and not by VPC endpoints.
    #[arg(long, value_name = "FILE", requires = "region")]
    ip_ranges: Option<PathBuf>,
    /// The region whose ranges are taken from that file.
    #[arg(long, value_name = "REGION", requires = "ip_ranges")]
    region: Option<String>,
    /// The services whose ranges are taken, as that file calls them.
    #[arg(long = "service", value_name = "NAME", default_values = ["EBS", "S3"])]
    services: Vec<String>,
    #[arg(long, value_enum, default_value = "csv")]
    format: firewall_request::Format,
    #[arg(long, value_enum, default_value = "en")]
    language: firewall_request::Language,
}

impl FirewallRequest {
    fn print(self) -> anyhow::Result<()> {
        let aws = match self.ip_ranges.as_deref().zip(self.region.as_deref()) {
            Some((file, region)) => aws_ranges::read(file, region, &self.services)?,
            None => Vec::new(),
        };
        let request = firewall_request::Request {
            account: self.account,
            sources: self.sources,
            runners: self.runners,
            data_port: self.data_port,
            enrol_port: self.enrol_port,
            hub: self.hub,
            hub_port: self.hub_port,
            from: self.from,
            until: self.until,
            aws,
        };
        let file = firewall_request::render(&request, self.format, self.language)?;
        std::io::stdout()
            .write_all(file.as_bytes())
            .context("cannot write the request")
    }
}

/// What is logged unless `ORGLIFT_LOG` says otherwise. Migrations are told of only when they fail.
const LOG: &str = "info,sea_orm_migration=warn";

/// The whole program, for `main` and for whoever carries it along.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version come this way, too; a closed pipe is no reason to panic.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let filter = EnvFilter::try_from_env("ORGLIFT_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let log = tracing_subscriber::fmt()
        // It would tell on standard error, and panic where that is a file on a full disk.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A program that carries this one along may have set up its own log.
    let _ = match cli.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    identity::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("orglift-hub: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orglift-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(options) => {
            let configuration = Configuration::load(&options.home.dir.dir)?;
            let database = options.home.database()?;
            let chosen = options.options.or(configuration.serve.clone());
            serve(chosen.config(options.home.dir.dir, database, configuration)?).await?;
        }
        Command::Organization(command) => organization::run(command).await?,
        Command::Accounts(command) => return accounts::run(command).await,
        Command::Readiness(args) => return readiness::run(*args).await,
        Command::Resources(args) => return resources::run(*args).await,
        Command::User(command) => user::run(command).await?,
        Command::Backup(args) => backup::backup(args).await?,
        Command::Restore(args) => backup::restore(args).await?,
        Command::Audit(command) => return audit::run(command).await,
        Command::Key(KeyCommand::Add {
            home,
            user,
            name,
            days,
        }) => {
            let mut tx = home.open_store().await?.begin().await?;
            let key = keys::add(&mut tx, COMMAND_LINE, &user, &name, days).await?;
            tx.commit().await?;
            println!("{key}");
        }
        Command::Onboarding(args) => onboarding::run(*args)?,
        Command::Token(TokenCommand::Create {
            home,
            account,
            purpose,
            ttl,
        }) => {
            let store = home.open_store().await?;
            let pki = Pki::open(&home.dir.dir.join("ca"))?;
            let mut tx = store.begin().await?;
            let ttl = Duration::from_secs(ttl);
            let token = tokens::create(&mut tx, &pki, &account, purpose, ttl, COMMAND_LINE).await?;
            tx.commit().await?;
            println!("{}", token.reveal());
        }
        Command::Ca(dir) => {
            let pki = Pki::open(&dir.dir.join("ca"))?;
            println!("{}", Digest(pki.ca_sha256()?));
        }
        Command::FirewallRequest(request) => request.print()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
