//! The choice between installed servers: the versions of `template.yaml`, which `scripts/stores.sh` installs, or those
//! of the operating system's packages.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::process::{find_program, install_hint};

/// Folder of `scripts/stores.sh`.
const DEPLOYED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.stores");
const POSTGRES_PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// Values of the variable `STORES`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Preference {
    /// The deployed versions if they are installed, else the distribution's.
    #[default]
    Either,
    /// The deployed versions only.
    Deployed,
    /// The distribution's only.
    Distribution,
}

/// The installed servers to run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Installation {
    preference: Preference,
    /// `POSTGRES_BIN`: the folder of PostgreSQL's programs.
    postgres_bin: Option<PathBuf>,
    /// `REDIS_SERVER`: the program of Redis or Valkey.
    redis_server: Option<PathBuf>,
    deployed: PathBuf,
}

impl Installation {
    /// Reads `STORES` (`deployed` or `distribution`), `POSTGRES_BIN` and `REDIS_SERVER`. An empty variable counts as
    /// unset.
    ///
    /// # Errors
    /// A variable has a value that cannot be used.
    pub(crate) fn from_environment() -> Result<Self> {
        Self::read(|name| std::env::var(name).ok(), Path::new(DEPLOYED))
    }

    fn read(variable: impl Fn(&str) -> Option<String>, deployed: &Path) -> Result<Self> {
        let read = |name| variable(name).filter(|value| !value.trim().is_empty());
        let preference = match read("STORES").as_deref() {
            None => Preference::Either,
            Some("deployed") => Preference::Deployed,
            Some("distribution") => Preference::Distribution,
            Some(other) => bail!("STORES is {other}: use deployed or distribution, or unset it"),
        };
        let postgres_bin = read("POSTGRES_BIN").map(PathBuf::from);
        if let Some(folder) = postgres_bin.as_deref().filter(|folder| !is_complete(folder)) {
            bail!("POSTGRES_BIN: {} lacks one of {}", folder.display(), POSTGRES_PROGRAMS.join(", "));
        }
        let redis_server = read("REDIS_SERVER").map(PathBuf::from);
        if let Some(program) = redis_server.as_deref().filter(|program| !program.is_file()) {
            bail!("REDIS_SERVER: {} is no program", program.display());
        }
        Ok(Self { preference, postgres_bin, redis_server, deployed: deployed.to_owned() })
    }

    /// Returns the folder of PostgreSQL's programs, without symbolic links.
    ///
    /// # Errors
    /// PostgreSQL is not installed. The error has the remedy.
    pub(crate) async fn postgres_folder(&self) -> Result<PathBuf> {
        let deployed = self.deployed.join("postgres/bin");
        let folder = match &self.postgres_bin {
            Some(folder) => folder.clone(),
            None if self.uses(is_complete(&deployed))? => deployed,
            None => distribution_folder().await.with_context(|| {
                let packages =
                    ["postgresql", "postgresql-server", "postgresql", "postgresql", "postgresql@18"];
                let hint = install_hint(packages);
                format!("PostgreSQL is not installed: run `{hint}`, or set DATABASE_URL to a server")
            })?,
        };
        Ok(folder.canonicalize()?)
    }

    /// Returns the program of Redis or Valkey. The deployed Valkey is built without TLS, so for TLS this is the
    /// distribution's.
    ///
    /// # Errors
    /// Neither is installed. The error has the remedy.
    pub(crate) fn redis_program(&self, tls: bool) -> Result<PathBuf> {
        let deployed = self.deployed.join("valkey-server");
        match &self.redis_server {
            Some(program) => Ok(program.clone()),
            None if !tls && self.uses(deployed.is_file())? => Ok(deployed),
            None => find_program(&["redis-server", "valkey-server"]).with_context(|| {
                let hint = install_hint(["redis-server", "valkey", "redis", "valkey", "redis"]);
                format!("neither Redis nor Valkey is installed: run `{hint}`, or set REDIS_URL to a server")
            }),
        }
    }

    /// Tells whether to run the deployed version of a server.
    fn uses(&self, installed: bool) -> Result<bool> {
        let required = self.preference == Preference::Deployed;
        ensure!(
            installed || !required,
            "the deployed versions of the stores are not installed: run scripts/stores.sh, or unset STORES"
        );
        Ok(installed && self.preference != Preference::Distribution)
    }
}

/// Returns the major version of the PostgreSQL in a folder of programs.
///
/// # Errors
/// The server does not tell its version.
pub(crate) async fn major_version(folder: &Path) -> Result<String> {
    let program = folder.join("postgres");
    let output = Command::new(&program).arg("--version").output().await;
    let output = output.with_context(|| format!("{} cannot be started", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let version = text.split_once("(PostgreSQL) ").map(|(_, version)| version.trim());
    let version = version.with_context(|| format!("{} does not tell its version", program.display()))?;
    Ok(version.chars().take_while(char::is_ascii_digit).collect())
}

async fn distribution_folder() -> Option<PathBuf> {
    let on_path = find_program(&["initdb"]).and_then(|initdb| initdb.canonicalize().ok());
    let on_path = on_path.and_then(|initdb| Some(initdb.parent()?.to_owned()));
    match on_path.filter(|folder| is_complete(folder)) {
        Some(folder) => Some(folder),
        None => configured_folder().await.or_else(packaged_folder),
    }
}

fn is_complete(folder: &Path) -> bool {
    POSTGRES_PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

async fn configured_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().await.ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    is_complete(&folder).then_some(folder)
}

/// Returns the newest installed version. Debian, and Homebrew for versioned packages, install versions side by side
/// and outside `PATH`.
fn packaged_folder() -> Option<PathBuf> {
    let roots = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"];
    let versions = roots.iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    let folders = versions.filter_map(|version| {
        let name = version.file_name().into_string().ok()?;
        let digits = name.trim_start_matches("postgresql@").trim_start_matches("pgsql-");
        let folder = version.path().join("bin");
        is_complete(&folder).then(|| (digits.parse::<u32>().unwrap_or(0), folder))
    });
    folders.max_by_key(|(version, _)| *version).map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates empty files in place of programs.
    fn install(folder: &Path, programs: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for program in programs {
            fs::write(folder.join(program), "").unwrap();
        }
    }

    fn read(deployed: &Path, variables: &[(&str, &str)]) -> Result<Installation> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Installation::read(|name| find(name).map(|(_, value)| (*value).to_owned()), deployed)
    }

    #[tokio::test]
    async fn the_deployed_versions_run_where_they_are_installed_and_a_variable_chooses_others() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (deployed, own) = (root.join("deployed"), root.join("own"));
        install(&deployed.join("postgres/bin"), &POSTGRES_PROGRAMS);
        install(&deployed, &["valkey-server"]);
        install(&own, &POSTGRES_PROGRAMS);
        install(&own, &["redis"]);

        for stores in ["", "deployed"] {
            let found = read(&deployed, &[("STORES", stores)]).unwrap();
            assert_eq!(found.postgres_folder().await.unwrap(), deployed.join("postgres/bin"));
            assert_eq!(found.redis_program(false).unwrap(), deployed.join("valkey-server"));
        }
        let distribution = read(&deployed, &[("STORES", "distribution")]).unwrap();
        assert!(!distribution.postgres_folder().await.unwrap().starts_with(&root));
        assert!(!distribution.redis_program(false).unwrap().starts_with(&root));
        // The deployed Valkey has no TLS.
        assert!(!read(&deployed, &[]).unwrap().redis_program(true).unwrap().starts_with(&root));

        let (bin, server) = (own.to_str().unwrap(), own.join("redis"));
        let variables = [("POSTGRES_BIN", bin), ("REDIS_SERVER", server.to_str().unwrap())];
        let explicit = read(&deployed, &variables).unwrap();
        assert_eq!(explicit.postgres_folder().await.unwrap(), own);
        assert_eq!(explicit.redis_program(false).unwrap(), server);
        assert_eq!(explicit.redis_program(true).unwrap(), server);
    }

    #[tokio::test]
    async fn without_the_deployed_versions_the_distributions_run_unless_they_are_required() {
        let nothing = tempfile::tempdir().unwrap();
        let found = read(nothing.path(), &[]).unwrap();
        assert!(is_complete(&found.postgres_folder().await.unwrap()));
        assert!(found.redis_program(false).unwrap().is_file());

        let required = read(nothing.path(), &[("STORES", "deployed")]).unwrap();
        for error in
            [required.postgres_folder().await.unwrap_err(), required.redis_program(false).unwrap_err()]
        {
            assert!(error.to_string().contains("scripts/stores.sh"), "{error}");
        }
    }

    #[test]
    fn a_choice_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().to_str().unwrap();
        for (name, value) in [("STORES", "newest"), ("POSTGRES_BIN", empty), ("REDIS_SERVER", empty)] {
            let error = read(folder.path(), &[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(value), "{error}");
        }
    }
}
