//! Boot readiness of source servers, conversions of their checkpoints, and what runners hand over of those.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, binary, boolean, text},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_conversion"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column at a time.
        for column in [
            text("inspection").default("null").take(),
            // Follows from the inspection, and stands beside it for queries.
            text("readiness").default("NOT_INSPECTED").take(),
        ] {
            let mut alter = Table::alter();
            manager
                .alter_table(alter.table("source_servers").add_column(column).take())
                .await?;
        }
        for table in [conversions(), artifacts()] {
            manager.create_table(table).await?;
        }
        // Of all conversions ever made, few are wanted.
        let mut wanted = Index::create();
        wanted
            .name("conversions_wanted")
            .table("conversions")
            .col("server")
            .and_where(Expr::col("wanted"));
        manager.create_index(wanted).await?;
        let mut of_server = Index::create();
        of_server
            .name("conversions_server")
            .table("conversions")
            .col("server")
            .col("ordered_at");
        manager.create_index(of_server).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn conversions() -> TableCreateStatement {
    Table::create()
        .table("conversions")
        .col(text("job"))
        .col(text("server"))
        // Whether the job still needs it.
        .col(boolean("wanted"))
        .col(text("order"))
        .col(text("state"))
        .col(big_integer("ordered_at"))
        .col(big_integer_null("ended_at"))
        .primary_key(Index::create().col("job").col("server"))
        .foreign_key(ForeignKey::create().from("conversions", "job").to("jobs", "id"))
        .foreign_key(
            ForeignKey::create()
                .from("conversions", "server")
                .to("source_servers", "id"),
        )
        .take()
}

fn artifacts() -> TableCreateStatement {
    Table::create()
        .table("artifacts")
        .col(text("job"))
        .col(text("server"))
        .col(text("artifact"))
        .col(binary("contents"))
        .col(big_integer("at"))
        .primary_key(Index::create().col("job").col("server").col("artifact"))
        .foreign_key(
            ForeignKey::create()
                .from("artifacts", ("job", "server"))
                .to("conversions", ("job", "server")),
        )
        .take()
}
