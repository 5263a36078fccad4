//! What is told to whoever wants to hear of it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, integer, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0016_notices"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let notices = Table::create()
            .table("notices")
            .col(big_integer("sequence").primary_key())
            .col(big_integer("at"))
            .col(text("account"))
            .col(text("server"))
            .col(text("kind"))
            .col(text("state"))
            .col(text_null("job"))
            .take();
        manager.create_table(notices).await?;
        let targets = Table::create()
            .table("notice_targets")
            .col(text("id").primary_key())
            .col(text("name"))
            .col(text("form"))
            // Only its host is shown: an address may be a secret.
            .col(text("host"))
            .col(text("address"))
            .col(text("secret"))
            .col(text("kinds"))
            .col(text("created_by"))
            .col(big_integer("created_at"))
            // The last notice that it was told of.
            .col(big_integer("told"))
            .col(big_integer_null("told_at"))
            .col(integer("failures"))
            .col(big_integer("retry_at"))
            .col(text_null("last_error"))
            .take();
        manager.create_table(targets).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
