//! `orglift-hub user`: who may sign in, and what they may do where.

use std::io::Read;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use domain::scope::Scope;

use super::home::Home;
use crate::{
    auth::{self, Grant},
    entities::user::UserRole,
};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, or give one a new password, role and scope.
    Add {
        #[command(flatten)]
        named: Named,
        #[arg(long, value_enum)]
        role: UserRole,
        /// Where the role is given: everything, organization:ID, unit:ID:Root/Production or account:210000000001. Give it
        /// once for each.
        #[arg(long = "scope", value_name = "SCOPE", default_value = "everything")]
        scopes: Vec<Scope>,
        /// Read the password from standard input.
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// Give a user a role somewhere, in place of the one for the same scope.
    Grant {
        #[command(flatten)]
        named: Named,
        #[arg(long, value_enum)]
        role: UserRole,
        /// As of `user add`.
        #[arg(long, value_name = "SCOPE")]
        scope: Scope,
    },
    /// Take back what was given to a user for a scope. Counts from the next request on.
    Revoke {
        #[command(flatten)]
        named: Named,
        /// As `user list` shows it.
        #[arg(long, value_name = "SCOPE")]
        scope: Scope,
    },
    /// Remove a user, with sessions and API keys.
    Remove {
        #[command(flatten)]
        named: Named,
    },
    /// List users, and what each may do where.
    List {
        #[command(flatten)]
        home: Home,
    },
}

#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    home: Home,
    #[arg(long)]
    name: String,
}

pub(super) async fn run(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add {
            named: Named { home, name },
            role,
            scopes,
            password_stdin: _,
        } => {
            let password = password()?;
            let grants = scopes.into_iter().map(|scope| Grant { role, scope });
            let store = home.open_store().await?;
            auth::user_put(&store, &name, grants.collect(), password).await?;
        }
        UserCommand::Grant {
            named: Named { home, name },
            role,
            scope,
        } => {
            let store = home.open_store().await?;
            auth::grant(&store, &name, Grant { role, scope }).await?;
        }
        UserCommand::Revoke {
            named: Named { home, name },
            scope,
        } => {
            let store = home.open_store().await?;
            auth::revoke(&store, &name, &scope).await?;
        }
        UserCommand::Remove {
            named: Named { home, name },
        } => {
            let store = home.open_store().await?;
            auth::user_remove(&store, &name).await?;
        }
        UserCommand::List { home } => {
            let store = home.open_store().await?;
            for user in store.user_list().await? {
                let grants = store.grants_of(&user.name).await?;
                if grants.is_empty() {
                    println!("{}  nothing", user.name);
                }
                for grant in grants {
                    println!("{}  {}", user.name, Grant::from(grant));
                }
            }
        }
    }
    Ok(())
}

fn password() -> anyhow::Result<String> {
    let mut password = String::new();
    std::io::stdin()
        .read_to_string(&mut password)
        .context("cannot read the password from standard input")?;
    let password = password.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() {
        bail!("there is no password on standard input");
    }
    Ok(password)
}
