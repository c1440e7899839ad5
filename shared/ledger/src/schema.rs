//! The schema: its migrations, its version, and the rights of the functions' role.
//!
//! To add a migration: see `migrations/README.md`.

use std::{fmt, str::FromStr};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{AddressError, Error, Outage, connect::Connector};
use runtime::tls::Authorities;

/// The migrations of this release, oldest first.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "ledger", include_str!("../migrations/0001_ledger.sql"))];

/// The oldest schema that this release can use.
const VERSION_MIN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The SQLSTATE of a missing table.
const UNDEFINED_TABLE: &str = "42P01";

/// All rights of the functions' role, besides calling the schema's functions. They permit neither an update nor a
/// deletion of votes and of journal entries.
const RIGHTS: [(&str, &str); 24] = [
    ("_sqlx_migrations", "SELECT"),
    ("SEQUENCE batches", "USAGE"),
    ("SEQUENCE log_numbers", "USAGE"),
    ("certificates", "SELECT, INSERT, UPDATE, DELETE"),
    ("closings", "SELECT, INSERT, UPDATE, DELETE"),
    ("counting_place_0", "UPDATE"),
    ("counting_place_1", "UPDATE"),
    ("counting_place_2", "UPDATE"),
    ("cuts", "SELECT, INSERT, UPDATE"),
    ("deleted_files", "SELECT, INSERT, UPDATE, DELETE"),
    ("exports", "SELECT, INSERT, UPDATE, DELETE"),
    ("journal", "SELECT, INSERT"),
    ("late_arrivals", "SELECT, INSERT, UPDATE"),
    ("late_votes", "SELECT, INSERT"),
    ("later_certificates", "SELECT, INSERT, UPDATE"),
    ("log_batches", "SELECT, INSERT, UPDATE"),
    ("names_files", "SELECT, INSERT, UPDATE, DELETE"),
    ("polls", "SELECT, INSERT, UPDATE, DELETE"),
    ("probes", "SELECT, INSERT, UPDATE, DELETE"),
    ("signs", "SELECT, INSERT, UPDATE"),
    ("tallies", "SELECT, INSERT, UPDATE, DELETE"),
    ("votes", "SELECT, INSERT"),
    ("rejection_counts", "SELECT, INSERT, UPDATE, DELETE"),
    ("rejections", "SELECT, INSERT, DELETE"),
];

/// A client for the owner of a ledger's schema, who migrates it.
#[derive(Clone)]
pub struct Schema(pub(crate) Connector);

/// The name of the functions' database role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role(String);

/// The role's name is invalid.
#[derive(Debug, thiserror::Error)]
#[error("use 1 to 63 lowercase letters, digits and underscores, a letter first")]
pub struct RoleError;

/// The reason why the schema is not at this release. A retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database is away, or refuses a statement: another role may own the schema.
    #[error(transparent)]
    Database(#[from] Error),
    /// A migration failed, and earlier migrations stay applied. Or the database has migrations that differ from this
    /// release's.
    #[error(
        "the schema cannot be migrated to this release; data of a release with other migrations is usable by that \
         release only: on one machine, choose another --data-dir or remove the data folder"
    )]
    Migration(#[from] MigrateError),
    /// The role is missing, so the functions could not connect. A retry helps once the role exists.
    #[error(
        "there is no role {0}, and the schema's owner may make none: let it (CREATEROLE), or make the role"
    )]
    NoRole(String),
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Schema {
    /// Creates the client without connecting. Only the caller bounds a migration: an abandoned migration is rolled
    /// back within a second.
    ///
    /// # Errors
    /// If the URL is not a PostgreSQL URL.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        Ok(Self(Connector::new(url)?))
    }

    /// Trusts these authorities instead of Amazon's.
    #[must_use]
    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self(self.0.trusting(authorities))
    }

    /// Migrates the schema to this release and returns its version. The version is higher if a later release has
    /// already expanded the schema. Idempotent; of several concurrent calls, one does the work.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub async fn migrate(&self) -> Result<i64, SchemaError> {
        let mut connection = self.0.open().await?;
        let migrations = MIGRATIONS.map(|(version, description, sql)| {
            Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let mut migrator = Migrator::with_migrations(migrations.into());
        // After a rollback, the earlier release finds migrations that it does not know.
        migrator.set_ignore_missing(true);
        migrator.run(&mut connection).await?;
        let version = version(&mut connection).await?;
        connection.close().await?;
        Ok(version)
    }

    /// Creates the role if it is missing, and grants it the functions' rights and, on RDS, IAM authentication. It
    /// never revokes a right, since functions of the previous release may be running. Idempotent and safe to run
    /// concurrently.
    ///
    /// # Errors
    /// [`SchemaError::Database`], [`SchemaError::NoRole`].
    pub async fn grant(&self, role: &Role) -> Result<(), SchemaError> {
        let mut connection = self.0.open().await?;
        let mut transaction = connection.begin().await?;
        // Two concurrent grants would conflict in the catalog's rows, and one would fail. The number is 'role' in
        // ASCII.
        sqlx::raw_sql("/* grant */ SELECT pg_advisory_xact_lock(1919904869)")
            .execute(&mut *transaction)
            .await?;
        let sql = "/* grant */ SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) \
                   OR (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)";
        let possible: bool = sqlx::query_scalar(sql).bind(&role.0).fetch_one(&mut *transaction).await?;
        if !possible {
            return Err(SchemaError::NoRole(role.0.clone()));
        }
        sqlx::raw_sql(AssertSqlSafe(grants(role))).execute(&mut *transaction).await?;
        transaction.commit().await?;
        connection.close().await?;
        Ok(())
    }
}

/// Omits the address, which may contain a password.
impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Schema")
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(name: &str) -> Result<Self, RoleError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        if !begins_well || name.len() > 63 || !name.bytes().all(is_plain) {
            return Err(RoleError);
        }
        Ok(Self(name.to_owned()))
    }
}

/// Returns the SQL that creates the role and grants its rights. Roles belong to the server, so the migration of
/// another database may create the same role concurrently.
fn grants(Role(role): &Role) -> String {
    let rights: String =
        RIGHTS.iter().map(|(table, rights)| format!("GRANT {rights} ON {table} TO \"{role}\";")).collect();
    format!(
        "/* grant */
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                BEGIN
                    CREATE ROLE \"{role}\" LOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                END;
            END IF;
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')
                AND NOT pg_has_role('{role}', 'rds_iam', 'MEMBER') THEN
                GRANT rds_iam TO \"{role}\";
            END IF;
        END
        $$;
        GRANT USAGE ON SCHEMA public TO \"{role}\";
        {rights}"
    )
}

/// Checks that the schema is not too old for this release. A newer one is usable, since it has only been expanded.
/// One round trip.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Error> {
    let found = version(connection).await?;
    if found < VERSION_MIN {
        return Err(Outage::SchemaTooOld { found, needed: VERSION_MIN }.into());
    }
    Ok(())
}

/// Returns the version of the last applied migration. 0 if there is none.
async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let sql = "/* schema_version */ SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success";
    match sqlx::raw_sql(sql).fetch_one(connection).await {
        Ok(row) => row.try_get("version"),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(0),
        Err(error) => Err(error),
    }
}
