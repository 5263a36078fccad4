//! `orglift-hub accounts`: every account, entered once, and what came of it.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use cloud::control::Place;
use domain::account::{Access, Reach};
use futures_util::{StreamExt, pin_mut};
use serde_json::json;

use super::{Home, selection::Selection};
use crate::{clock::now_ms, entities::account, fan_out::fan_out, serve::CloudChoice, tasks::accounts};

/// Some accounts were not reached.
pub(super) const SOME: u8 = 3;
/// None was.
pub(super) const NONE: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum AccountsCommand {
    /// Enter every account of every organization, and say what stands in the way. Exits with 0 if all were reached but
    /// those that the hub was told to leave alone, 3 if some were not, 4 if none was.
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    home: Home,
    /// The cloud to act in: aws, or folder:PATH.
    #[arg(long)]
    cloud: CloudChoice,
    #[command(flatten)]
    selection: Selection,
    /// Leave out accounts that were reached within so many seconds: goes on after a check that was cut off.
    #[arg(long, value_name = "SECONDS")]
    unless_within: Option<u32>,
    /// Count what of ours is in each account, too.
    #[arg(long)]
    inventory: bool,
    /// Write each outcome as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(AccountsCommand::Check(check): AccountsCommand) -> anyhow::Result<ExitCode> {
    let store = check.home.open_store().await?;
    let cloud = check.cloud.open();
    for organization in store.organization_list().await? {
        if check.selection.is_of(&organization.name) && organization.reach.0 != Reach::Roster {
            accounts::list(&store, &*cloud, &organization).await?;
        }
    }
    let wanted = |account: &account::Model| !check.was_reached(account);
    let (places, suspended) = check.selection.places(&store, "check access", wanted).await?;
    let total = places.len() + suspended.len();
    let mut tally = Tally::default();
    for account in suspended {
        tally.add(
            account.id.as_str(),
            &account.name,
            &account.region,
            &Err(Access::Suspended),
            total,
        );
    }
    let names: BTreeMap<_, _> = store
        .account_list()
        .await?
        .into_iter()
        .map(|account| (account.id.0.clone(), (account.name, account.region)))
        .collect();
    let outcomes = fan_out(places, |place: Place| {
        let (cloud, inventory) = (&cloud, check.inventory);
        async move {
            cloud.check_access(&place).await?;
            Ok(if inventory {
                Some(cloud.inventory(&place).await?.len())
            } else {
                None
            })
        }
    });
    pin_mut!(outcomes);
    while let Some(done) = outcomes.next().await {
        let (account, region) = (&done.place.account, &done.place.region);
        let (name, own_region) = names.get(account).cloned().unwrap_or_default();
        if *region == own_region {
            let access = done.outcome.as_ref().map_or_else(Access::clone, |_| Access::Ok);
            let mut tx = store.begin().await?;
            tx.account_checked(account, access).await?;
            tx.commit().await?;
        }
        tally.add(account.as_str(), &name, region, &done.outcome, total);
    }
    if let Some(file) = &check.json {
        write_json(file, &tally.rows)?;
    }
    println!("{}", tally.in_words());
    Ok(tally.exit_code())
}

impl Check {
    fn was_reached(&self, account: &account::Model) -> bool {
        let Some(within) = self.unless_within else {
            return false;
        };
        let within = i64::try_from(Duration::from_secs(within.into()).as_millis()).unwrap_or(i64::MAX);
        account.access.0 == Access::Ok && account.checked_at.is_some_and(|at| now_ms() - at < within)
    }
}

/// One row for each outcome.
pub(super) fn write_json(file: &Path, rows: &[serde_json::Value]) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(rows)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Why an account was not reached.
pub(super) fn why(access: &Access) -> String {
    match access {
        Access::Denied { call, remedy } => format!("{call}: {remedy}"),
        Access::Unknown { detail } => detail.clone(),
        Access::Throttled => "AWS refuses more calls for the moment; check again later".into(),
        Access::Suspended => "its organization has suspended it".into(),
        Access::LeftAlone { why } => why.clone(),
        Access::NotAttempted | Access::Ok => String::new(),
    }
}

#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<&'static str, usize>,
    rows: Vec<serde_json::Value>,
}

impl Tally {
    fn add(
        &mut self,
        account: &str,
        name: &str,
        region: &str,
        outcome: &Result<Option<usize>, Access>,
        total: usize,
    ) {
        let (access, found) = match outcome {
            Ok(found) => (&Access::Ok, *found),
            Err(access) => (access, None),
        };
        *self.counts.entry(access.name()).or_default() += 1;
        self.rows.push(json!({ "account": account, "name": name, "region": region, "outcome": access, "resources": found }));
        if *access != Access::Ok {
            let why = why(access);
            println!("{account}  {region}  {}  {name}: {why}", access.name());
        }
        if io::stderr().is_terminal() {
            eprint!("\r{} of {total}", self.rows.len());
        }
    }

    fn in_words(&self) -> String {
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        format!("{} accounts and regions: {}", self.rows.len(), counts.join(", "))
    }

    /// Where the hub was told not to act, nothing failed.
    fn exit_code(&self) -> ExitCode {
        let count = |access: &Access| self.counts.get(access.name()).copied().unwrap_or_default();
        let left_alone = count(&Access::LeftAlone { why: String::new() });
        match count(&Access::Ok) {
            all if all + left_alone == self.rows.len() => ExitCode::SUCCESS,
            0 => ExitCode::from(NONE),
            _ => ExitCode::from(SOME),
        }
    }
}
