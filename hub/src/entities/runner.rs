//! A member-runner, as it enrolled and last reported.

use domain::ids::{AccountId, RunnerId};
use sea_orm::entity::prelude::*;

use super::columns::Word;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runners")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<RunnerId>,
    pub account: Word<AccountId>,
    pub region: String,
    /// Where agents reach it.
    pub address: String,
    /// Where it reached the hub when it called last: the hub's own address, as the connection came in.
    pub hub_address: Option<String>,
    pub data_port: i32,
    pub enrol_port: i32,
    pub version: String,
    pub certificate_serial: String,
    pub last_seen: Option<i64>,
    /// Bytes left in its staging area, where that is bounded.
    pub staging_free: Option<i64>,
    /// Grows whenever what is wanted of this runner changes.
    pub desired_generation: i64,
    /// What the runner last said it had taken up.
    pub observed_generation: i64,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
