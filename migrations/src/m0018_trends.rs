//! What was measured of servers over weeks, for charts.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0018_trends"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let trends = Table::create()
            .table("trends")
            .col(text("server").primary_key())
            .col(text("points"))
            .take();
        manager.create_table(trends).await?;
        let mut alter = Table::alter();
        // When its newest point was measured.
        let measured = big_integer("measured_at").default(0).take();
        manager
            .alter_table(alter.table("source_servers").add_column(measured).take())
            .await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
