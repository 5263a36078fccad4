//! What people may do, and where.

use sea_orm_migration::{prelude::*, schema::text};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0007_people"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(grants()).await?;
        // Who had a role had it everywhere.
        let known = Query::select()
            .column("name")
            .expr(Expr::value("everything"))
            .column("role")
            .from("users")
            .take();
        let mut insert = Query::insert();
        insert
            .into_table("grants")
            .columns(["user", "scope", "role"])
            .select_from(known)
            .map_err(|error| DbErr::Migration(error.to_string()))?;
        manager.execute(insert).await?;
        let mut alter = Table::alter();
        manager
            .alter_table(alter.table("users").drop_column("role").take())
            .await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn grants() -> TableCreateStatement {
    Table::create()
        .table("grants")
        .col(text("user"))
        .col(text("scope"))
        .col(text("role"))
        .primary_key(Index::create().col("user").col("scope"))
        .foreign_key(
            ForeignKey::create()
                .from("grants", "user")
                .to("users", "name")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}
