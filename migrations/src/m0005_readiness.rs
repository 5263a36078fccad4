//! Whether the networks of accounts are ready, and where runners reach the hub.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, boolean, integer, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_readiness"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(readiness()).await?;
        let mut alter = Table::alter();
        manager
            .alter_table(alter.table("runners").add_column(text_null("hub_address")).take())
            .await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn readiness() -> TableCreateStatement {
    Table::create()
        .table("readiness")
        .col(text("account"))
        .col(text("region"))
        // What people named, which outlives a report.
        .col(text("named"))
        .col(text("report"))
        // Follows from the report, and stands beside it for queries.
        .col(integer("findings").default(0))
        .col(big_integer_null("checked_at"))
        // Somebody wants to know now.
        .col(boolean("wanted").default(false))
        .primary_key(Index::create().col("account").col("region"))
        .foreign_key(
            ForeignKey::create()
                .from("readiness", "account")
                .to("accounts", "id"),
        )
        .take()
}
