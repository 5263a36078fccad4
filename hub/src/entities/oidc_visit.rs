//! A browser that was sent to the identity provider, known by the digest of its cookie.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "oidc_visits")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    /// What the provider gives back with the browser.
    pub state: String,
    /// What the provider signs.
    pub nonce: String,
    /// By which the provider knows that who fetches the tokens is who sent the browser (PKCE).
    pub verifier: String,
    /// Where the browser goes after it.
    pub next: String,
    pub ends_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
