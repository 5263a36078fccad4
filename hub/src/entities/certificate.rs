//! A certificate that the hub's authority issued.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "certificates")]
pub struct Model {
    /// In lower-case hexadecimal.
    #[sea_orm(primary_key, auto_increment = false)]
    pub serial: String,
    /// The role's URI, `orglift://agent/s-…`.
    pub subject: String,
    pub issued_at: i64,
    pub revoked_at: Option<i64>,
    pub revoked_by: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
