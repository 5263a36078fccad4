//! Where a hub's state is.

use std::env;

use anyhow::{Context, bail};
use clap::Args;

use super::Dir;
use crate::{
    changes::Changes,
    configuration::Configuration,
    hub::create_folder,
    store::{Database, Store, holds_password},
};

/// Holds the address of the database where that must not be seen in the list of processes.
const VARIABLE: &str = "ORGLIFT_DATABASE";

#[derive(Debug, Args)]
pub(super) struct Home {
    #[command(flatten)]
    pub(super) dir: Dir,
    /// The PostgreSQL database that holds the hub's records, as `postgres://USER@HOST/DATABASE?sslmode=verify-full`; without
    /// it, and without `database` in `hub.toml`, they are in a SQLite file in the hub's folder. An address with a password
    /// belongs into the environment variable `ORGLIFT_DATABASE` instead, or the password into the file `~/.pgpass`.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl Home {
    pub(super) fn database(&self) -> anyhow::Result<Database> {
        if self.database.as_deref().is_some_and(holds_password) {
            bail!(
                "--database holds a password, which everybody on this machine can see in the list of processes: put \
                 the address into the environment variable {VARIABLE} instead, or the password into the file ~/.pgpass"
            );
        }
        let url = match (&self.database, env::var_os(VARIABLE)) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(url)) if !url.is_empty() => {
                let Ok(url) = url.into_string() else {
                    bail!("{VARIABLE} is not text");
                };
                Some(url)
            }
            _ => Configuration::load(&self.dir.dir)?.database,
        };
        Ok(match url {
            Some(url) => Database::Server(url.parse()?),
            None => Database::in_folder(&self.dir.dir),
        })
    }

    /// Opens the database; the hub itself may be running.
    pub(super) async fn open_store(&self) -> anyhow::Result<Store> {
        let database = self.database()?;
        create_folder(&self.dir.dir)?;
        Store::open(&database, Changes::default())
            .await
            .context("cannot open the hub's database")
    }
}
