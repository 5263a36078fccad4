//! The audit log, chained by hash.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0008_audit"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // What was written down without a hash proves nothing. No hub with the old log was released.
        manager.drop_table(Table::drop().table("audit").take()).await?;
        manager.create_table(audit()).await?;
        for column in ["at", "subject"] {
            let index = Index::create()
                .name(format!("audit_{column}"))
                .table("audit")
                .col(column)
                .take();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn audit() -> TableCreateStatement {
    Table::create()
        .table("audit")
        .col(big_integer("sequence").primary_key())
        .col(big_integer("at"))
        .col(text("actor"))
        .col(text("address"))
        .col(text("action"))
        .col(text("subject"))
        .col(text("outcome"))
        .col(text("detail"))
        .col(text("hash"))
        .take()
}
