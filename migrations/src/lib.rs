//! The database schema, step by step.
//!
//! A step that has been released never changes: what comes later expands the schema first, and
//! contracts it once no running hub needs the old shape. Times are milliseconds since 1970 in `i64`
//! columns, so that they compare and sort alike everywhere; states are stored whole as JSON, with their
//! name beside them for queries.

use sea_orm_migration::prelude::*;

mod m0001_first_light;
mod m0002_flow;
mod m0003_conversion;
mod m0004_routes;
mod m0005_readiness;
mod m0006_inventories;
mod m0007_people;
mod m0008_audit;
mod m0009_sign_in;
mod m0010_waves;
mod m0011_imports;
mod m0012_at_a_glance;
mod m0013_preferences;
mod m0014_jobs;
mod m0015_several_hubs;
mod m0016_notices;
mod m0017_templates;
mod m0018_trends;

#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first_light::Migration),
            Box::new(m0002_flow::Migration),
            Box::new(m0003_conversion::Migration),
            Box::new(m0004_routes::Migration),
            Box::new(m0005_readiness::Migration),
            Box::new(m0006_inventories::Migration),
            Box::new(m0007_people::Migration),
            Box::new(m0008_audit::Migration),
            Box::new(m0009_sign_in::Migration),
            Box::new(m0010_waves::Migration),
            Box::new(m0011_imports::Migration),
            Box::new(m0012_at_a_glance::Migration),
            Box::new(m0013_preferences::Migration),
            Box::new(m0014_jobs::Migration),
            Box::new(m0015_several_hubs::Migration),
            Box::new(m0016_notices::Migration),
            Box::new(m0017_templates::Migration),
            Box::new(m0018_trends::Migration),
        ]
    }
}
