//! What the lab consists of, and the folder that remembers it.

use std::{fmt, fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{
    wait::{Look, eventually},
    world::{AccountPlan, read_json, server::ServerPlan, write_json},
};

/// Accounts that an organization can list and people can still look at.
const ACCOUNTS_MAX: u32 = 50;
const SERVERS_MAX: u32 = 200;
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// A disk needs its partition table, its log and some room.
const DISK_MIB_MIN: u64 = 4;

const ACCOUNT_NAMES: [&str; 3] = ["production", "shared-services", "analytics"];
const SERVER_NAMES: [&str; 6] = ["web", "db", "app", "files", "mail", "build"];

/// What was given on the command line; the rest comes from the folder, or is as usual.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub accounts: Option<u32>,
    pub servers: Option<u32>,
    pub disk_mib: Option<u64>,
    pub seed: Option<u64>,
}

/// `lab.json`: what this folder's lab consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// In the organization; a roster tenant comes on top.
    pub accounts: u32,
    pub servers: u32,
    pub disk_mib: u64,
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            accounts: 3,
            servers: 6,
            disk_mib: 64,
            seed: 1,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an organization of {} accounts, a roster tenant, {} source servers (disks of {} MiB, seed {})",
            self.accounts, self.servers, self.disk_mib, self.seed
        )
    }
}

impl Shape {
    fn checked(self) -> anyhow::Result<Self> {
        if !(1..=ACCOUNTS_MAX).contains(&self.accounts) {
            bail!("--accounts must be 1 to {ACCOUNTS_MAX}");
        }
        if !(1..=SERVERS_MAX).contains(&self.servers) {
            bail!("--servers must be 1 to {SERVERS_MAX}");
        }
        if self.disk_mib < DISK_MIB_MIN {
            bail!("--disk-mib must be {DISK_MIB_MIN} or more");
        }
        Ok(self)
    }

    /// The organization's accounts, and the tenant of its own at the end.
    pub fn accounts(&self) -> Vec<AccountPlan> {
        let id = |number: u64| {
            let digits = format!("{number:012}");
            digits.parse().expect("twelve digits")
        };
        let mut accounts: Vec<_> = (1..=u64::from(self.accounts))
            .map(|n| AccountPlan {
                id: id(210_000_000_000 + n),
                name: match ACCOUNT_NAMES.get(usize::try_from(n - 1).unwrap_or(usize::MAX)) {
                    Some(name) => (*name).to_owned(),
                    None => format!("account-{n}"),
                },
                in_organization: true,
            })
            .collect();
        accounts.push(AccountPlan {
            id: id(640_000_000_001),
            name: "gov-tenant".into(),
            in_organization: false,
        });
        accounts
    }

    /// The source servers, spread over all accounts; every second has a data disk beside its boot disk.
    pub fn servers(&self) -> Vec<(ServerPlan, AccountPlan)> {
        let accounts = self.accounts();
        let bytes = self.disk_mib << 20;
        (0..self.servers as usize)
            .map(|index| {
                let account = accounts[index % accounts.len()].clone();
                let (name, round) = (
                    SERVER_NAMES[index % SERVER_NAMES.len()],
                    index / SERVER_NAMES.len() + 1,
                );
                let disks = if index % 2 == 0 {
                    vec![bytes]
                } else {
                    vec![bytes, bytes / 2 * 3]
                };
                let plan = ServerPlan {
                    name: format!("{name}-{round}"),
                    account: account.id.clone(),
                    disks,
                    seed: self.seed.wrapping_mul(1009).wrapping_add(index as u64),
                };
                (plan, account)
            })
            .collect()
    }
}

/// Makes the lab's folder, or reads what it holds and checks that it is what was asked for.
pub fn open_folder(dir: &Path, choice: &Choice) -> anyhow::Result<Shape> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let file = dir.join("lab.json");
    let held: Option<Shape> = read_json(&file)?;
    let base = held.clone().unwrap_or_default();
    let wanted = Shape {
        accounts: choice.accounts.unwrap_or(base.accounts),
        servers: choice.servers.unwrap_or(base.servers),
        disk_mib: choice.disk_mib.unwrap_or(base.disk_mib),
        seed: choice.seed.unwrap_or(base.seed),
    }
    .checked()?;
    match held {
        Some(held) if held != wanted => bail!(
            "{} holds another lab: {held}. Give those options to go on with it, choose another --dir, or delete \
             the folder",
            dir.display()
        ),
        Some(held) => Ok(held),
        None => {
            let is_empty = fs::read_dir(dir)
                .with_context(|| format!("cannot list {}", dir.display()))?
                .next()
                .is_none();
            if !is_empty {
                bail!(
                    "{} is not empty and holds no lab; choose another --dir",
                    dir.display()
                );
            }
            write_json(&file, &wanted)?;
            Ok(wanted)
        }
    }
}

/// Two labs in one folder would fight over it. One that was just killed may take a moment to end.
pub async fn lock(dir: &Path) -> anyhow::Result<fs::File> {
    let path = dir.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let free = || async { Ok(Look::when(file.try_lock().is_ok(), "the folder is locked")) };
    eventually("the folder is free", LOCK_PATIENCE, free)
        .await
        .with_context(|| format!("another lab runs in {}", dir.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_on_with_what_it_holds_and_refuses_another_lab() {
        let folder = tempfile::tempdir().unwrap();
        let choice = Choice {
            servers: Some(2),
            ..Choice::default()
        };
        let made = open_folder(folder.path(), &choice).unwrap();
        assert_eq!(open_folder(folder.path(), &Choice::default()).unwrap(), made);
        let other = Choice {
            servers: Some(3),
            ..Choice::default()
        };
        let refused = open_folder(folder.path(), &other).unwrap_err().to_string();
        assert!(refused.contains("2 source servers"), "{refused}");
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        assert!(open_folder(folder.path(), &Choice::default()).is_err());
    }

    #[test]
    fn servers_are_in_every_account_and_have_names_of_their_own() {
        let shape = Shape::default();
        let servers = shape.servers();
        let names: std::collections::BTreeSet<_> = servers.iter().map(|(plan, _)| &plan.name).collect();
        assert_eq!(names.len(), 6);
        for account in shape.accounts() {
            assert!(servers.iter().any(|(plan, _)| plan.account == account.id));
        }
    }
}
