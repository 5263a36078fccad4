//! What new source servers take over, and how many checkpoints of each stay.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, integer, text},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0017_templates"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let templates = Table::create()
            .table("templates")
            // For everything, an organization, a unit or an account.
            .col(text("scope").primary_key())
            .col(text("launch"))
            .col(text("replication"))
            .col(text("changed_by"))
            .col(big_integer("changed_at"))
            .take();
        manager.create_table(templates).await?;
        let mut alter = Table::alter();
        let kept = integer("checkpoints_kept").default(6).take();
        manager
            .alter_table(alter.table("source_servers").add_column(kept).take())
            .await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
