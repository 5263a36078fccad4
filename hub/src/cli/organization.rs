//! `orglift-hub organization`: which accounts there are, and how they are reached.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use cloud::route::{Endpoints, Hop, MEMBER_ROLE, Profile, Route};
use domain::{
    account::Reach,
    ids::{AccountId, InvalidId},
};
use serde::Deserialize;

use super::home::Home;
use crate::actions::accounts::{self, NewOrganization, RosterAccount};

/// More accounts than AWS lets an organization have.
const ROSTER_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum OrganizationCommand {
    /// Add an organization and print its id. A running hub looks at its accounts within a minute.
    Add(Box<Add>),
    /// Show every organization, and how its accounts are reached.
    List {
        #[command(flatten)]
        home: Home,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    home: Home,
    #[arg(long)]
    name: String,
    /// How its accounts are learned. A roster is listed by hand, with --account or --roster.
    #[arg(long, value_enum)]
    reach: ReachChoice,
    /// Where its accounts are worked in, such as eu-central-1.
    #[arg(long)]
    region: String,
    /// An account of a roster; give it once for each.
    #[arg(long = "account", value_name = "ID=NAME", value_parser = roster_account)]
    accounts: Vec<RosterAccount>,
    /// The accounts of a roster: a CSV file with the columns id, name and region, or a TOML file with an [[account]] of
    /// these for each. The region may be left out.
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    #[command(flatten)]
    route: RouteArgs,
}

/// The way into the accounts.
#[derive(Debug, Args)]
struct RouteArgs {
    /// The profile of AWS's files whose credentials the hub sets out with; without it, what its environment or instance
    /// gives it.
    #[arg(long)]
    profile: Option<String>,
    /// A role to assume on the way, before that of a member; give it once for each, in order.
    #[arg(long, value_name = "ROLE_ARN[,EXTERNAL_ID]", value_parser = hop)]
    through: Vec<Hop>,
    /// The name of the role in every account.
    #[arg(long, default_value = MEMBER_ROLE)]
    member_role: String,
    /// The name of the role of each account's runner, unless the onboarding template made it.
    #[arg(long)]
    runner_role: Option<String>,
    /// What the role in every account is told; made up if it is left out.
    #[arg(long)]
    external_id: Option<String>,
    /// Another region that the hub may act in; give it once for each.
    #[arg(long = "allow-region", value_name = "REGION")]
    regions: Vec<String>,
    /// An account that the hub must never enter; give it once for each.
    #[arg(long = "deny-account", value_name = "ID")]
    denied: Vec<AccountId>,
    /// Let the hub act in the account that it sets out from.
    #[arg(long)]
    own_account: bool,
    /// Where every service of AWS is called, instead of the public endpoints.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Call FIPS endpoints.
    #[arg(long)]
    fips: bool,
    /// Call endpoints that have IPv6 addresses, too.
    #[arg(long)]
    dual_stack: bool,
}

impl From<RouteArgs> for Route {
    fn from(args: RouteArgs) -> Self {
        Self {
            profile: args.profile.map(|name| Profile { name, file: None }),
            through: args.through,
            member_role: args.member_role,
            runner_role: args.runner_role,
            external_id: args.external_id,
            regions: BTreeSet::from_iter(args.regions),
            denied: BTreeSet::from_iter(args.denied),
            own_account: args.own_account,
            endpoints: Endpoints {
                url: args.endpoint_url,
                fips: args.fips,
                dual_stack: args.dual_stack,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReachChoice {
    ManagementAccount,
    DelegatedAdministrator,
    Roster,
}

impl From<ReachChoice> for Reach {
    fn from(choice: ReachChoice) -> Self {
        match choice {
            ReachChoice::ManagementAccount => Self::ManagementAccount,
            ReachChoice::DelegatedAdministrator => Self::DelegatedAdministrator,
            ReachChoice::Roster => Self::Roster,
        }
    }
}

pub(super) async fn run(command: OrganizationCommand) -> anyhow::Result<()> {
    match command {
        OrganizationCommand::Add(add) => {
            let mut roster = add.accounts;
            if let Some(file) = &add.roster {
                roster.extend(read_roster(file)?);
            }
            let store = add.home.open_store().await?;
            let mut tx = store.begin().await?;
            let organization = NewOrganization {
                name: add.name,
                reach: add.reach.into(),
                region: add.region,
                roster,
                route: add.route.into(),
            };
            let id = accounts::insert(&mut tx, organization).await?;
            tx.commit().await?;
            println!("{id}");
        }
        OrganizationCommand::List { home } => {
            let store = home.open_store().await?;
            for organization in store.organization_list().await? {
                let route = &organization.route;
                println!("{}  {}", organization.id, organization.name);
                println!("  accounts are learned as: {}", organization.reach.name());
                println!("  role in each account:    {}", route.member_role);
                println!(
                    "  ExternalId:              {}",
                    route.external_id.as_deref().unwrap_or("none")
                );
                let regions: Vec<_> = route.regions.iter().map(String::as_str).collect();
                println!("  regions:                 {}", regions.join(", "));
                for hop in &route.through {
                    println!("  through:                 {}", hop.role_arn);
                }
                for account in &route.denied {
                    println!("  never entered:           {account}");
                }
            }
        }
    }
    Ok(())
}

fn hop(text: &str) -> Result<Hop, String> {
    let (role_arn, external_id) = match text.split_once(',') {
        Some((arn, id)) => (arn, Some(id.to_owned())),
        None => (text, None),
    };
    if !role_arn.starts_with("arn:") || !role_arn.contains(":role/") {
        return Err(
            "give it as arn:aws:iam::ACCOUNT:role/NAME, with ,EXTERNAL_ID if the role expects one".into(),
        );
    }
    Ok(Hop {
        role_arn: role_arn.to_owned(),
        external_id,
    })
}

fn roster_account(text: &str) -> Result<RosterAccount, String> {
    let (id, name) = text.split_once('=').ok_or("give it as ID=NAME")?;
    Ok(RosterAccount {
        id: id.parse().map_err(|invalid: InvalidId| invalid.to_string())?,
        name: name.to_owned(),
        region: None,
    })
}

/// A roster in TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterFile {
    account: Vec<RosterAccount>,
}

fn read_roster(file: &PathBuf) -> anyhow::Result<Vec<RosterAccount>> {
    let cannot = || format!("cannot read {}", file.display());
    if fs::metadata(file).with_context(cannot)?.len() > ROSTER_BYTES_MAX {
        bail!("{} is larger than a roster can be", file.display());
    }
    let text = fs::read_to_string(file).with_context(cannot)?;
    let wrong = || format!("{} is not a roster", file.display());
    if file.extension().is_some_and(|extension| extension == "toml") {
        return Ok(toml::from_str::<RosterFile>(&text).with_context(wrong)?.account);
    }
    // Excel begins UTF-8 with a mark.
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let rows: Result<Vec<_>, _> = reader.deserialize().collect();
    rows.with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_of_a_roster_has_a_number_and_a_name() {
        let account = roster_account("640000000001=gov tenant").unwrap();
        assert_eq!(
            (account.id.as_str(), account.name.as_str()),
            ("640000000001", "gov tenant")
        );
        assert!(roster_account("640000000001").is_err());
        assert!(roster_account("64=gov tenant").is_err());
    }

    #[test]
    fn a_role_on_the_way_has_an_arn() {
        let with_id = hop("arn:aws-us-gov:iam::640000000001:role/Delegate,secret,too").unwrap();
        assert_eq!(with_id.role_arn, "arn:aws-us-gov:iam::640000000001:role/Delegate");
        assert_eq!(with_id.external_id.as_deref(), Some("secret,too"));
        assert!(hop("Delegate").is_err());
    }

    #[test]
    fn a_roster_is_read_from_csv_and_toml() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            read_roster(&file)
        };
        let csv = "\u{feff}id,name,region\n640000000001, gov tenant ,us-gov-west-1\n640000000002,other,\n";
        let toml = "[[account]]\nid = \"640000000001\"\nname = \"gov tenant\"\nregion = \"us-gov-west-1\"\n\
                    [[account]]\nid = \"640000000002\"\nname = \"other\"\n";
        let accounts = read("roster.csv", csv).unwrap();
        assert_eq!(accounts, read("roster.toml", toml).unwrap());
        assert_eq!(accounts[0].name, "gov tenant");
        assert_eq!(accounts[0].region.as_deref(), Some("us-gov-west-1"));
        assert_eq!(accounts[1].region, None);
        let wrong = read("roster.csv", "id,name\n64,short\n").unwrap_err();
        assert!(format!("{wrong:#}").contains("line: 2"), "{wrong:#}");
        assert!(read("roster.toml", "[[account]]\nid = 1\n").is_err());
    }
}
