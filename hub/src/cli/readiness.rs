//! `orglift-hub readiness`: what of the networks of accounts keeps servers from being replicated.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use domain::{
    account::Access,
    network::{Finding, cidr::Cidr},
};
use futures_util::TryStreamExt;
use serde_json::json;

use super::{
    Home,
    accounts::{NONE, SOME, why, write_json},
    selection::Selection,
};
use crate::{
    readiness::{
        Named, Outcome, Report, check_all,
        drift::{Drift, When},
        prepare,
    },
    serve::CloudChoice,
};

/// Every network was read, and some are not ready.
const NOT_READY: u8 = 5;

#[derive(Debug, Args)]
pub(super) struct ReadinessArgs {
    #[command(flatten)]
    home: Home,
    /// The cloud to act in: aws, or folder:PATH.
    #[arg(long)]
    cloud: CloudChoice,
    #[command(flatten)]
    selection: Selection,
    /// Where source servers are; give it once for each range. It is kept with the accounts, and asked again until other
    /// ranges are given.
    #[arg(long = "source-range", value_name = "CIDR")]
    sources: Vec<Cidr>,
    /// Where runners reach the hub, if that is not where the hub sees them arrive; kept like the ranges.
    #[arg(long, value_name = "ADDRESS:PORT")]
    hub: Option<SocketAddr>,
    /// Write each report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(args: ReadinessArgs) -> anyhow::Result<ExitCode> {
    let store = args.home.open_store().await?;
    let cloud = args.cloud.open();
    let (places, suspended) = args.selection.places(&store, "check readiness", |_| true).await?;
    let named = Named {
        sources: args.sources,
        hub: args.hub,
    };
    let is_named = named != Named::default();
    let checks = prepare(&store, places, is_named.then_some(&named), When::Now).await?;
    let mut tally = Tally::default();
    for account in suspended {
        let access = Access::Suspended;
        let report = Report {
            sources: Vec::new(),
            hub: None,
            outcome: Outcome::NotRead { access },
            drift: Drift::default(),
        };
        tally.add(account.id.as_str(), &account.region, &report);
    }
    let mut reports = std::pin::pin!(check_all(&store, &*cloud, checks));
    while let Some((place, report)) = reports.try_next().await? {
        tally.add(place.account.as_str(), &place.region, &report);
        for words in report.not_asked() {
            println!("{}  {}  not asked: {words}", place.account, place.region);
        }
    }
    if let Some(file) = &args.json {
        write_json(file, &tally.rows)?;
    }
    println!("{}", tally.in_words());
    Ok(tally.exit_code())
}

#[derive(Debug, Default)]
struct Tally {
    ready: usize,
    not_ready: usize,
    not_read: usize,
    left_alone: usize,
    rows: Vec<serde_json::Value>,
}

impl Tally {
    fn add(&mut self, account: &str, region: &str, report: &Report) {
        let Report { outcome, drift, .. } = report;
        self.rows
            .push(json!({ "account": account, "region": region, "outcome": outcome, "drift": drift }));
        let findings = report.findings();
        match outcome {
            Outcome::NothingToCheck => self.ready += 1,
            Outcome::Checked { .. } if findings.is_empty() => self.ready += 1,
            Outcome::Checked { .. } => {
                self.not_ready += 1;
                for Finding {
                    resource,
                    text,
                    change,
                    ..
                } in findings
                {
                    println!("{account}  {region}  {resource}: {text}. {change}");
                }
            }
            Outcome::NotRead { access } => {
                match access {
                    Access::LeftAlone { .. } => self.left_alone += 1,
                    _ => self.not_read += 1,
                }
                println!("{account}  {region}  {}: {}", access.name(), why(access));
            }
        }
    }

    fn in_words(&self) -> String {
        let Self {
            ready,
            not_ready,
            not_read,
            left_alone,
            rows,
        } = self;
        format!(
            "{} accounts and regions: {ready} ready, {not_ready} not ready, {not_read} not read, {left_alone} left alone",
            rows.len()
        )
    }

    fn exit_code(&self) -> ExitCode {
        match (self.not_read, self.not_ready) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(NOT_READY),
            (unread, _) if unread + self.left_alone == self.rows.len() => ExitCode::from(NONE),
            _ => ExitCode::from(SOME),
        }
    }
}
