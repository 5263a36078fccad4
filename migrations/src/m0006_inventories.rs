//! What accounts have of ours, as they last told.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, boolean, text},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_inventories"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(inventories()).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn inventories() -> TableCreateStatement {
    Table::create()
        .table("inventories")
        .col(text("account"))
        .col(text("region"))
        // Of the last time that the account answered.
        .col(text("resources"))
        .col(big_integer_null("asked_at"))
        // What came of the last attempt, which may be a later one.
        .col(text("access"))
        .col(big_integer_null("tried_at"))
        // Somebody wants to know now.
        .col(boolean("wanted").default(false))
        .primary_key(Index::create().col("account").col("region"))
        .foreign_key(
            ForeignKey::create()
                .from("inventories", "account")
                .to("accounts", "id"),
        )
        .take()
}
