//! How the accounts of an organization are reached, and where in their organization they are.

use sea_orm_migration::{prelude::*, schema::text};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_routes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in [
            ("organizations", text("route").default("{}").take()),
            ("accounts", text("unit").default("").take()),
        ] {
            let mut alter = Table::alter();
            manager
                .alter_table(alter.table(table).add_column(column).take())
                .await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
