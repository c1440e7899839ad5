use std::{fmt, str::FromStr};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{AddressError, Error, IamSigner, Outage, connect::Connector};
use runtime::tls::Authorities;

/// The migrations of this release, oldest first, compiled in.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "ledger", include_str!("../migrations/0001_ledger.sql"))];

/// The oldest schema that this release can use.
const VERSION_MIN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// All that the functions may do, besides calling what the schema has of functions. Whoever has these rights can
/// neither change a vote nor take one away, nor what the journal says of the crew.
const RIGHTS: [(&str, &str); 18] = [
    ("_sqlx_migrations", "SELECT"),
    ("certificates", "SELECT, INSERT, UPDATE, DELETE"),
    ("closings", "SELECT, INSERT, UPDATE, DELETE"),
    ("counting_place_0", "UPDATE"),
    ("counting_place_1", "UPDATE"),
    ("counting_place_2", "UPDATE"),
    ("deleted_files", "SELECT, INSERT, UPDATE, DELETE"),
    ("exports", "SELECT, INSERT, UPDATE, DELETE"),
    ("journal", "SELECT, INSERT"),
    ("late_arrivals", "SELECT, INSERT, UPDATE"),
    ("late_votes", "SELECT, INSERT"),
    ("later_certificates", "SELECT, INSERT, UPDATE"),
    ("polls", "SELECT, INSERT, UPDATE, DELETE"),
    ("probes", "SELECT, INSERT, UPDATE, DELETE"),
    ("signs", "SELECT, INSERT, UPDATE"),
    ("tallies", "SELECT, INSERT, UPDATE, DELETE"),
    ("votes", "SELECT, INSERT"),
    ("rejections", "SELECT, INSERT"),
];

/// The schema of a ledger, for its owner to bring up to this release.
#[derive(Clone)]
pub struct Schema(Connector);

/// The database role that the functions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role(String);

/// The name is none that a role should have.
#[derive(Debug, thiserror::Error)]
#[error("use 1 to 63 lowercase letters, digits and underscores, a letter first")]
pub struct RoleError;

/// Why the schema is not what this release needs. Trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not reached, broken off or refused.
    #[error("the database is unavailable")]
    Unavailable(#[from] sqlx::Error),
    /// A migration failed; those before it hold. Or the database's schema is not one that this release can follow.
    #[error("the schema cannot be brought up to this release")]
    Migration(#[from] MigrateError),
    /// The functions could not connect. Trying again helps once somebody has made the role.
    #[error(
        "there is no role {0}, and the schema's owner may make none: let it (CREATEROLE), or make the role"
    )]
    NoRole(String),
}

impl Schema {
    /// Prepares the connection without opening it. Nothing bounds a migration but its caller: one that is given up
    /// is rolled back within a second.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        Ok(Self(Connector::new(url)?))
    }

    /// Believes these authorities in place of Amazon's.
    #[must_use]
    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self(self.0.trusting(authorities))
    }

    /// Gives a token of RDS IAM for a password.
    ///
    /// # Errors
    /// [`AddressError::IamWithoutTls`] where the URL does not ask for `sslmode=verify-full`.
    pub fn signing(self, iam: IamSigner) -> Result<Self, AddressError> {
        Ok(Self(self.0.signing(iam)?))
    }

    /// Brings the schema up to this release, and says which version it has then: a later one where a later release
    /// has been here, since that has only expanded it. Safe to repeat; of several at once, one does the work.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub async fn migrate(&self) -> Result<i64, SchemaError> {
        let mut connection = self.0.open().await?;
        let migrations = MIGRATIONS.map(|(version, description, sql)| {
            Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let mut migrator = Migrator::with_migrations(migrations.into());
        // After a release is rolled back, the one before it finds migrations that it does not know.
        migrator.set_ignore_missing(true);
        migrator.run(&mut connection).await?;
        let version = version(&mut connection).await?;
        connection.close().await?;
        Ok(version)
    }

    /// Makes the role where it is absent, and gives it the rights that the functions need, and on RDS the way in with
    /// IAM. Nothing is ever taken away: functions of the release before may be at work. Safe to repeat, and at once.
    ///
    /// # Errors
    /// [`SchemaError::Unavailable`], also when the schema's owner is somebody else; [`SchemaError::NoRole`].
    pub async fn grant(&self, role: &Role) -> Result<(), SchemaError> {
        let mut connection = self.0.open().await?;
        let mut transaction = connection.begin().await?;
        // Two at once would meet in the rows of the catalogue, and one would fail. 'role' in ASCII.
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

/// Shows no part of the address: it may hold a password.
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

/// Roles belong to the server, not to the database: another database's migration may make the same one meanwhile.
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

/// Refuses a schema that is too old for this release; one that is newer has only been expanded. One round trip.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Error> {
    let found = version(connection).await?;
    if found < VERSION_MIN {
        return Err(Outage::SchemaTooOld { found, needed: VERSION_MIN }.into());
    }
    Ok(())
}

/// The last migration that was applied; 0: none.
async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let sql = "/* schema_version */ SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success";
    match sqlx::raw_sql(sql).fetch_one(connection).await {
        Ok(row) => row.try_get("version"),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(0),
        Err(error) => Err(error),
    }
}
