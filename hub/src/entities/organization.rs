//! A set of accounts with one way to reach them.

use cloud::route::Route;
use domain::{
    account::{Access, Reach},
    ids::OrganizationId,
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organizations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<OrganizationId>,
    pub name: String,
    pub reach: Word<Reach>,
    /// Where accounts that are found by listing are worked in.
    pub region: String,
    pub route: Doc<Route>,
    /// What came of listing the accounts; a roster is never listed.
    pub listing: Doc<Access>,
    pub listed_at: Option<i64>,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
