use sqlx::{
    Connection, PgConnection, Row, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::Error;

/// The migrations of this release, oldest first, compiled in.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "ledger", include_str!("../../migrations/0001_ledger.sql"))];

/// The oldest schema that this release can use.
const VERSION_MIN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// Brings a database's schema up to this release. Safe to repeat, and to run from several places at once.
///
/// # Errors
/// When the database cannot be reached or its schema is not one this release can follow.
pub async fn migrate(url: &str) -> Result<(), MigrateError> {
    let mut connection = PgConnection::connect(url).await?;
    let migrations = MIGRATIONS.map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into()).run(&mut connection).await
}

/// Refuses a schema that is too old for this release; one that is newer has only been expanded. One round trip.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Error> {
    let sql = "/* schema_version */ SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success";
    let found = match sqlx::raw_sql(sql).fetch_one(connection).await {
        Ok(row) => row.try_get("version")?,
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => 0,
        Err(error) => return Err(error.into()),
    };
    if found < VERSION_MIN {
        return Err(Error::SchemaTooOld { found, needed: VERSION_MIN });
    }
    Ok(())
}
