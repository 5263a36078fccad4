//! An account that servers are moved into.

use std::sync::Arc;

use cloud::{
    control::Place,
    route::{Errand, Route},
};
use domain::{
    account::Access,
    ids::{AccountId, OrganizationId},
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<AccountId>,
    pub organization: Word<OrganizationId>,
    pub name: String,
    /// Where it is in its organization, such as `Root/Production`; nothing for a roster's.
    pub unit: String,
    pub region: String,
    pub access: Doc<Access>,
    pub checked_at: Option<i64>,
    pub suspended: bool,
    pub created_at: i64,
}

impl Model {
    pub fn place(&self, route: Arc<Route>, errand: Errand) -> Place {
        Place {
            account: self.id.0.clone(),
            region: self.region.clone(),
            route,
            errand,
        }
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
