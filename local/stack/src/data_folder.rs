//! The folder for data that outlives a run: the stores' files, keys, logs and messages not yet counted.
use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::RunArguments;
use emulator::{lambda::Functions, sqs::Queues};

/// Bytes of `VoterHashKey`.
const VOTER_HASH_KEY_BYTES: usize = 32;

/// A data folder, locked against other stacks.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The kernel releases the lock when this process ends, even by SIGKILL.
    _lock: File,
    temporary: Option<TempDir>,
}

impl DataFolder {
    /// Creates the folder if absent and locks it.
    ///
    /// # Errors
    /// The folder cannot be written, or another stack uses it.
    pub fn open(arguments: &RunArguments) -> Result<Self> {
        let temporary = if arguments.ephemeral {
            Some(tempfile::Builder::new().prefix("votes-local-").tempdir()?)
        } else {
            None
        };
        let path = temporary.as_ref().map_or(arguments.data_dir.as_path(), TempDir::path);
        fs::create_dir_all(path)
            .with_context(|| format!("the data folder {} cannot be created", path.display()))?;
        let path = path.canonicalize()?;
        if temporary.is_some() {
            // PostgreSQL's user must be able to enter the folder.
            fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        }
        let lock = File::create(path.join("lock"))
            .with_context(|| format!("the data folder {} cannot be written", path.display()))?;
        if lock.try_lock().is_err() {
            bail!(
                "another stack is running on {}: choose another --data-dir, or --ephemeral",
                path.display()
            );
        }
        Ok(Self { path, _lock: lock, temporary })
    }

    /// Returns the folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether the folder outlives this run.
    pub fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Keeps a temporary folder beyond the run and returns its path.
    pub fn keep(mut self) -> PathBuf {
        self.temporary.take().map_or_else(|| self.path.clone(), TempDir::keep)
    }

    /// Returns the key for hashing voters' identities. It is generated once: a new key would make every voter a new
    /// one.
    ///
    /// # Errors
    /// The key file cannot be written.
    pub fn voter_hash_key(&self) -> Result<String> {
        let file = self.path.join("voter-hash-key");
        if let Ok(key) = fs::read_to_string(&file) {
            return Ok(key.trim().to_owned());
        }
        let mut bytes = [0; VOTER_HASH_KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).context("no random numbers")?;
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&file, &key).context("the voter hash key cannot be saved")?;
        Ok(key)
    }

    /// Writes the environment of each function to `functions/<logical id>.env`: `cargo lambda watch --env-file`
    /// runs one of them alone with it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_environments(&self, functions: &Functions) -> Result<()> {
        let folder = self.path.join("functions");
        fs::create_dir_all(&folder)?;
        for (id, variables) in functions.environments() {
            let lines = variables.iter().filter(|(name, _)| name != "PATH");
            let text: String = lines.map(|(name, value)| format!("{name}={value}\n")).collect();
            let file = folder.join(format!("{id}.env"));
            write_private(&file, &text).with_context(|| format!("{} cannot be written", file.display()))?;
        }
        Ok(())
    }

    /// Restores the messages that the last run saved and returns their number.
    ///
    /// # Errors
    /// The file is not readable, or a queue no longer exists; the file stays.
    pub fn restore_messages(&self, queues: &Queues) -> Result<usize> {
        let file = self.path.join("messages.json");
        let Ok(saved) = fs::read(&file) else { return Ok(0) };
        let advice = || {
            format!("{} holds votes of an earlier run that cannot be restored; move it away", file.display())
        };
        let snapshot: emulator::sqs::Snapshot = serde_json::from_slice(&saved).with_context(advice)?;
        let count = snapshot.len();
        queues.restore(snapshot).with_context(advice)?;
        fs::remove_file(&file)?;
        Ok(count)
    }

    /// Saves the queues' remaining messages for the next run and returns their number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_messages(&self, queues: &Queues) -> Result<usize> {
        let snapshot = queues.snapshot();
        if self.is_kept() && !snapshot.is_empty() {
            // Renaming is atomic; a half-written file would lose every message.
            let (draft, file) = (self.path.join("messages.json.new"), self.path.join("messages.json"));
            fs::write(&draft, serde_json::to_vec(&snapshot)?)?;
            fs::rename(draft, file)?;
        }
        Ok(snapshot.len())
    }
}

/// Writes a file that only its owner may read.
fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    opened?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(folder: &Path) -> RunArguments {
        RunArguments::parse(["--data-dir", folder.to_str().unwrap()]).unwrap()
    }

    #[test]
    fn one_stack_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(&arguments(folder.path())).unwrap();
        let second = DataFolder::open(&arguments(folder.path())).unwrap_err();
        assert!(second.to_string().contains("another stack is running"), "{second}");
        drop(first);
        DataFolder::open(&arguments(folder.path())).unwrap();
    }

    #[test]
    fn the_voter_hash_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(&arguments(folder.path())).unwrap();
        let key = data.voter_hash_key().unwrap();
        assert_eq!(key.len(), 2 * VOTER_HASH_KEY_BYTES);
        assert_eq!(data.voter_hash_key().unwrap(), key);
        let mode = fs::metadata(folder.path().join("voter-hash-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_ephemeral_folder_is_gone_afterwards() {
        let data = DataFolder::open(&RunArguments::parse(["--ephemeral"]).unwrap()).unwrap();
        let path = data.path().to_owned();
        assert!(path.exists() && !data.is_kept());
        drop(data);
        assert!(!path.exists());
    }
}
