//! `orglift-hub user`: who may sign in, and what they may do where.

use std::io::Read;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use domain::scope::Scope;

use super::home::Home;
use crate::{
    audit::COMMAND_LINE,
    auth::{
        Grant,
        people::{self, NewUser},
        second_factor,
    },
    clock::now_ms,
    entities::user::{Model as User, UserRole},
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
        /// The password is good for nothing but to choose another at the first sign-in.
        #[arg(long)]
        one_time: bool,
        /// For the day on which nobody else gets in: never locked out, signs in even where hub.toml lets nobody in by a
        /// password, says why each time, and stays for an hour at most.
        #[arg(long)]
        break_glass: bool,
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
    /// Let somebody try again who was locked out after too many failures.
    Unlock(Named),
    /// Keep a user out, with all sessions and API keys, from the next request on.
    Disable(Named),
    /// Let in again who was disabled.
    Enable(Named),
    /// Take away the second factor of somebody who lost it.
    RemoveSecondFactor(Named),
    /// Remove a user, with sessions and API keys.
    Remove(Named),
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
    let by = COMMAND_LINE;
    match command {
        UserCommand::Add {
            named: Named { home, name },
            role,
            scopes,
            password_stdin: _,
            one_time,
            break_glass,
        } => {
            let grants = scopes.into_iter().map(|scope| Grant { role, scope });
            let new = NewUser {
                name,
                grants: grants.collect(),
                password: password()?,
                one_time,
                break_glass,
            };
            let new = new.prepare().await?;
            let mut tx = home.open_store().await?.begin().await?;
            people::put(&mut tx, by, new).await?;
            tx.commit().await?;
        }
        UserCommand::Grant {
            named: Named { home, name },
            role,
            scope,
        } => {
            let mut tx = home.open_store().await?.begin().await?;
            people::grant(&mut tx, by, &name, Grant { role, scope }).await?;
            tx.commit().await?;
        }
        UserCommand::Revoke {
            named: Named { home, name },
            scope,
        } => {
            let mut tx = home.open_store().await?.begin().await?;
            people::revoke(&mut tx, by, &name, &scope).await?;
            tx.commit().await?;
        }
        UserCommand::Unlock(Named { home, name }) => {
            let mut tx = home.open_store().await?.begin().await?;
            people::unlock(&mut tx, by, &name).await?;
            tx.commit().await?;
        }
        UserCommand::Disable(Named { home, name }) => {
            let mut tx = home.open_store().await?.begin().await?;
            people::set_disabled(&mut tx, by, &name, true).await?;
            tx.commit().await?;
        }
        UserCommand::Enable(Named { home, name }) => {
            let mut tx = home.open_store().await?.begin().await?;
            people::set_disabled(&mut tx, by, &name, false).await?;
            tx.commit().await?;
        }
        UserCommand::RemoveSecondFactor(Named { home, name }) => {
            let mut tx = home.open_store().await?.begin().await?;
            let mut user = people::existing(&tx, &name).await?;
            second_factor::remove(&mut tx, by, &mut user).await?;
            tx.commit().await?;
        }
        UserCommand::Remove(Named { home, name }) => {
            let mut tx = home.open_store().await?.begin().await?;
            people::remove(&mut tx, by, &name).await?;
            tx.commit().await?;
        }
        UserCommand::List { home } => {
            let store = home.open_store().await?;
            let grants = store.grant_list().await?;
            for user in store.user_list().await? {
                let mut held = grants.iter().filter(|grant| grant.user == user.name).peekable();
                let remarks = remarks(&user);
                if held.peek().is_none() {
                    println!("{}  nothing{remarks}", user.name);
                }
                for grant in held {
                    println!("{}  {}{remarks}", user.name, Grant::from(grant.clone()));
                }
            }
        }
    }
    Ok(())
}

fn remarks(user: &User) -> String {
    let remarks = [
        (user.subject.is_some(), "by the identity provider"),
        (user.totp.is_some(), "second factor"),
        (user.break_glass, "break-glass"),
        (user.disabled_at.is_some(), "disabled"),
        (
            user.locked_until.is_some_and(|until| until > now_ms()),
            "locked out",
        ),
    ];
    let held: Vec<_> = remarks
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, remark)| *remark)
        .collect();
    if held.is_empty() {
        String::new()
    } else {
        format!("  ({})", held.join(", "))
    }
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
