//! What each person has set for oneself, and cloud resources found by their ids.

use sea_orm_migration::{prelude::*, schema::text};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0013_preferences"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut alter = Table::alter();
        let preferences = text("preferences").default("{}").take();
        manager
            .alter_table(alter.table("users").add_column(preferences).take())
            .await?;
        let index = Index::create()
            .name("ledger_resource")
            .table("ledger")
            .col("resource")
            .take();
        manager.create_index(index).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
