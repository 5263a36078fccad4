//! `orglift-agent install`: looks, asks, enrols, and starts the service.
//!
//! Nothing is asked before it is known that the disks can be read and the runner can be reached; nothing
//! on this machine is changed before the hub has signed the key. The token is used up by then, so
//! what is left, writing a few files, was checked to be possible before.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context;
use domain::source_server::SourceProperties;
use identity::NewKey;
use protocol::enrol::{AgentEnrolment, Token};

use crate::{
    config::{Config, DiskChoice},
    disks::{LocalDisk, Roots, discover},
    layout::Layout,
    machine,
    session::roster::chosen,
    status::human_bytes,
};

mod choose;
mod enrol;
mod preflight;
pub mod systemd;

/// What the person who installs wants.
#[derive(Debug)]
pub struct Wishes {
    pub runner_host: String,
    pub enrol_port: u16,
    pub data_port: u16,
    /// As it was given; asked for if not.
    pub token: Option<String>,
    pub devices: Vec<PathBuf>,
    pub ask: bool,
    pub tags: BTreeMap<String, String>,
    pub user_provided_id: Option<String>,
    /// `false`: the server is known, and stays stopped.
    pub replicate: bool,
    /// An agent that is installed already is replaced.
    pub replace: bool,
}

pub async fn install(layout: &Layout, wishes: Wishes) -> anyhow::Result<()> {
    let roots = Roots::default();
    let given = wishes.token.as_deref().map(str::parse::<Token>).transpose()?;
    println!("The installation of the Orglift agent has started.");
    let replaces = check_not_installed(layout, wishes.replace)?;

    println!("Identifying disks for replication.");
    let found = if wishes.devices.is_empty() {
        let found = discover::physical(&roots)?;
        anyhow::ensure!(
            !found.is_empty(),
            "no physical disk was found; name block devices or image files with --devices"
        );
        found
    } else {
        discover::named(&roots, &wishes.devices)?
    };
    preflight::check(layout, &found, &wishes).await?;

    let (disks, choice) = choose_disks(found, &wishes)?;
    for disk in &disks {
        println!(
            "Identified disk for replication: {} of size {}",
            disk.disk.device_name,
            human_bytes(disk.disk.bytes)
        );
    }
    println!("All disks for replication were successfully identified.");

    let token = match given {
        Some(token) => token,
        None => ask_for_token(&wishes)?,
    };
    step("Making a key for this server")?;
    let key = NewKey::generate()?;
    finished();
    let enrolment = AgentEnrolment {
        token_secret: token.secret.clone(),
        csr_pem: key.csr_pem()?,
        properties: properties(&roots, &disks),
        user_provided_id: wishes.user_provided_id.clone(),
        tags: wishes.tags.clone(),
        replicate: wishes.replicate,
    };
    step("Enrolling this server with the Orglift console")?;
    let enrolled = enrol::enrol(&wishes, &token, &enrolment)
        .await
        .inspect_err(|_| println!("Failed."))?;
    finished();

    if replaces {
        step("Removing the agent that was installed before")?;
        crate::uninstall::uninstall(layout)?;
        finished();
    }
    step("Installing the Orglift agent onto this server")?;
    layout.create()?;
    key.certified(enrolled.certificate_pem, enrolled.ca_pem)
        .save(&layout.credentials())?;
    // Last: with it, the agent counts as installed.
    config(&wishes, &disks, choice).save(layout)?;
    finished();
    println!("The following is the source server ID: {}.", enrolled.server);
    println!("You now have {} active source servers.", enrolled.active_servers);

    if systemd::manages(layout) {
        step("Starting the service")?;
        systemd::install_and_start()?;
        finished();
    } else {
        println!(
            "There is no systemd to start the agent with. Run it with: orglift-agent run --dir {}",
            layout.dir().display()
        );
    }
    if !wishes.replicate {
        println!("Replication is stopped; start it in the console when you are ready.");
    }
    println!("The Orglift agent was successfully installed.");
    Ok(())
}

/// Whether an agent is there that may be replaced.
fn check_not_installed(layout: &Layout, replace: bool) -> anyhow::Result<bool> {
    if !layout.config().exists() {
        return Ok(false);
    }
    anyhow::ensure!(
        replace,
        "an Orglift agent is installed in {} already; see `orglift-agent status`, or replace it with --force",
        layout.dir().display()
    );
    println!(
        "The agent that is installed in {} will be replaced: this server becomes a new source server and is copied \
         anew. Disconnect the old one in the console.",
        layout.dir().display()
    );
    Ok(true)
}

fn choose_disks(found: Vec<LocalDisk>, wishes: &Wishes) -> anyhow::Result<(Vec<LocalDisk>, DiskChoice)> {
    if !wishes.devices.is_empty() {
        return Ok((found, DiskChoice::Named));
    }
    if !wishes.ask {
        return Ok((found, DiskChoice::All));
    }
    let (disks, choice) = choose::ask(&found)?;
    if !disks.iter().any(|disk| disk.disk.is_boot) {
        println!("Note: the disk that this server starts from is not among them; an instance needs one.");
    }
    Ok((disks, choice))
}

fn ask_for_token(wishes: &Wishes) -> anyhow::Result<Token> {
    anyhow::ensure!(
        wishes.ask && std::io::stdin().is_terminal(),
        "a token is needed: --token, --token-file or the variable ORGLIFT_TOKEN"
    );
    Ok(choose::prompt("Paste the enrolment token from the console: ")?.parse()?)
}

fn properties(roots: &Roots, chosen: &[LocalDisk]) -> SourceProperties {
    machine::properties(roots, chosen.iter().map(|disk| disk.disk.clone()).collect())
}

fn config(wishes: &Wishes, disks: &[LocalDisk], choice: DiskChoice) -> Config {
    Config {
        runner_host: wishes.runner_host.clone(),
        data_port: wishes.data_port,
        choice,
        disks: disks.iter().map(chosen).collect(),
        tags: wishes.tags.clone(),
    }
}

fn step(what: &str) -> anyhow::Result<()> {
    print!("{what}... ");
    std::io::stdout().flush().context("cannot write to the terminal")
}

fn finished() {
    println!("Finished.");
}
