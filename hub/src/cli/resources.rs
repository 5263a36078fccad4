//! `orglift-hub resources`: what accounts have of ours, and what of it nothing needs.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use domain::account::Access;
use futures_util::TryStreamExt;
use serde_json::json;

use super::{
    Home,
    accounts::{NONE, SOME, why, write_json},
    selection::Selection,
};
use crate::{
    clock::now_ms,
    resources::{
        Account, ask_all, in_words, of_place,
        prices::{Prices, Total},
    },
    serve::CloudChoice,
};

/// Every account answered, and some have what should not be there.
const NOT_RIGHT: u8 = 5;

#[derive(Debug, Args)]
pub(super) struct ResourcesArgs {
    #[command(flatten)]
    home: Home,
    /// The cloud to act in: aws, or folder:PATH.
    #[arg(long)]
    cloud: CloudChoice,
    #[command(flatten)]
    selection: Selection,
    /// Write each answer as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(args: ResourcesArgs) -> anyhow::Result<ExitCode> {
    let prices = Prices::load(&args.home.dir.dir)?;
    let store = args.home.open_store().await?;
    let cloud = args.cloud.open();
    let (places, suspended) = args.selection.places(&store, "list resources", |_| true).await?;
    let mut tally = Tally::of(&prices);
    for account in suspended {
        tally.add(account.id.as_str(), &account.region, &Err(Access::Suspended));
    }
    let mut answers = std::pin::pin!(ask_all(&store, &*cloud, places));
    while let Some(answer) = answers.try_next().await? {
        let (account, region) = (&answer.place.account, &answer.place.region);
        let found = match answer.outcome {
            Ok(resources) => Ok(of_place(&store, &prices, account, region, &resources, now_ms()).await?),
            Err(access) => Err(access),
        };
        tally.add(account.as_str(), region, &found);
    }
    if let Some(file) = &args.json {
        write_json(file, &tally.rows)?;
    }
    println!("{}", tally.in_words());
    Ok(tally.exit_code())
}

#[derive(Debug)]
struct Tally<'a> {
    prices: &'a Prices,
    total: Total,
    right: usize,
    not_right: usize,
    not_asked: usize,
    left_alone: usize,
    rows: Vec<serde_json::Value>,
}

impl<'a> Tally<'a> {
    fn of(prices: &'a Prices) -> Self {
        Self {
            prices,
            total: Total::default(),
            right: 0,
            not_right: 0,
            not_asked: 0,
            left_alone: 0,
            rows: Vec::new(),
        }
    }

    fn add(&mut self, account: &str, region: &str, found: &Result<Account, Access>) {
        let mut row = json!({ "account": account, "region": region });
        match found {
            Err(access) => {
                match access {
                    Access::LeftAlone { .. } => self.left_alone += 1,
                    _ => self.not_asked += 1,
                }
                row["access"] = json!(access);
                println!("{account}  {region}  {}: {}", access.name(), why(access));
            }
            Ok(found) => {
                if found.is_right() {
                    self.right += 1;
                } else {
                    self.not_right += 1;
                }
                row["access"] = json!(Access::Ok);
                row["resources"] = found.json();
                let total = Total::of(&found.items);
                self.total = self.total + total;
                println!(
                    "{account}  {region}  {}; {}",
                    in_words(&found.items),
                    total.in_words(self.prices)
                );
                for item in &found.items {
                    if let Some(remedy) = item.standing.remedy() {
                        println!("{account}  {region}  {} {}: {remedy}", item.kind.name(), item.id);
                    }
                }
                for row in &found.missing {
                    let id = row.resource.as_deref().unwrap_or_default();
                    println!(
                        "{account}  {region}  {} {id}: {}",
                        row.kind.name(),
                        crate::resources::MISSING
                    );
                }
            }
        }
        self.rows.push(row);
    }

    fn in_words(&self) -> String {
        let Self {
            right,
            not_right,
            not_asked,
            left_alone,
            rows,
            prices,
            total,
        } = self;
        format!(
            "{} accounts and regions: {right} have nothing but what is needed, {not_right} have more or less, \
             {not_asked} could not be asked, {left_alone} left alone; {}, by the list of {} ({})",
            rows.len(),
            total.in_words(prices),
            prices.as_of,
            prices.source,
        )
    }

    fn exit_code(&self) -> ExitCode {
        match (self.not_asked, self.not_right) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(NOT_RIGHT),
            (silent, _) if silent + self.left_alone == self.rows.len() => ExitCode::from(NONE),
            _ => ExitCode::from(SOME),
        }
    }
}
