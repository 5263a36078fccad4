//! Somebody who was recognised, and what they may do where.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::{extract::ConnectInfo, http::Extensions};
use domain::scope::Scope;

use crate::{
    entities::{account, grant, user::UserRole},
    store::sight::Sight,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub name: String,
    /// Of the machine that asks.
    pub address: Option<IpAddr>,
    pub grants: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub role: UserRole,
    pub scope: Scope,
}

impl Grant {
    pub fn everywhere(role: UserRole) -> Self {
        let scope = Scope::Everything;
        Self { role, scope }
    }
}

impl From<grant::Model> for Grant {
    fn from(row: grant::Model) -> Self {
        Self {
            role: row.role.0,
            scope: row.scope.0,
        }
    }
}

/// `operator for account:210000000001`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.role.name(), self.scope)
    }
}

/// The address of the machine that a request came from.
pub fn address_of(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.0.ip().to_canonical())
}

impl Actor {
    pub fn new(name: impl Into<String>, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self {
            name: name.into(),
            address: None,
            grants: grants.into_iter().collect(),
        }
    }

    #[must_use]
    pub fn at(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    /// What this one may look at: whatever any grant is for.
    pub fn sight(&self) -> Sight {
        Sight::of(self.grants.iter().map(|grant| grant.scope.clone()))
    }

    /// The highest role that the grants give in an account.
    pub fn role_in(&self, account: &account::Model) -> Option<UserRole> {
        self.highest(|scope| scope.covers(&account.id, &account.organization, &account.unit))
    }

    /// The role for what concerns all accounts, those of tomorrow included.
    pub fn role_everywhere(&self) -> Option<UserRole> {
        self.highest(|scope| *scope == Scope::Everything)
    }

    /// The role for all of a scope. For accounts, [`Self::role_in`] knows more.
    pub fn role_over(&self, scope: &Scope) -> Option<UserRole> {
        self.highest(|own| own.contains(scope))
    }

    /// The highest role anywhere.
    pub fn role_somewhere(&self) -> Option<UserRole> {
        self.highest(|_| true)
    }

    fn highest(&self, counts: impl Fn(&Scope) -> bool) -> Option<UserRole> {
        let counting = self.grants.iter().filter(|grant| counts(&grant.scope));
        counting.map(|grant| grant.role).max()
    }
}
