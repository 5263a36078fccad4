//! How data flows from a source server, how much of the network it may use, and what a checkpoint cost.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, boolean, integer, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_flow"
    }
}

const NO_FLOW: &str = r#"{"written_bytes_s":0,"copied_bytes_s":0,"wire_bytes_s":0,"backlog_bytes":0}"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column at a time.
        for (table, column) in [
            ("source_servers", text("bandwidth").default("{}").take()),
            ("source_servers", text("flow").default(NO_FLOW).take()),
            // Both follow from the flow and the disks, and stand beside them for queries.
            ("source_servers", boolean("diverges").default(false).take()),
            ("source_servers", boolean("untracked").default(false).take()),
            ("checkpoints", integer("frozen_ms").default(0).take()),
            ("checkpoints", big_integer("received_bytes").default(0).take()),
            ("checkpoints", text_null("damage").take()),
        ] {
            let mut alter = Table::alter();
            manager
                .alter_table(alter.table(table).add_column(column).take())
                .await?;
        }
        // Of hundreds of thousands of servers a few are like this.
        for column in ["diverges", "untracked"] {
            let mut index = Index::create();
            index
                .name(format!("source_servers_{column}"))
                .table("source_servers")
                .col(column)
                .and_where(Expr::col(column));
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
