//! Several hubs on one database: they have to be of one authority.

use sea_orm_migration::{prelude::*, schema::text};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0015_several_hubs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // At most one row: the fingerprint of the authority that certifies the machines.
        let authority = Table::create()
            .table("authority")
            .col(text("sha256").primary_key())
            .take();
        manager.create_table(authority).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
