//! Operations on disk: one small file for each, replaced as a whole and made durable at every step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Operation;
use crate::provider::Token;
use crate::{Error, ErrorKind, Result};

/// Folder in the data folder.
const FOLDER: &str = "operations";

/// Operations that are over and are kept for `operations list`.
const KEPT: usize = 200;

/// The operations of a data folder.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

/// The right to work on one operation; nobody else has it meanwhile, in this process or another.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
    path: PathBuf,
}

impl Journal {
    /// The journal in `data`, which is made if it is not there. Plans hold what containers are to be told, and that may be
    /// secret: the folder and its files are for their owner alone.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join(FOLDER);
        let made =
            fs::create_dir_all(data).and_then(|()| match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            });
        made.map_err(|error| Error::io("make the journal", &folder, error))?;
        Ok(Self { folder })
    }

    /// Takes an operation for oneself until the claim is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while somebody else works on it.
    pub fn claim(&self, id: Token) -> Result<Claim> {
        let path = self.folder.join(format!("{id}.lock"));
        let lock = private(&path).map_err(|error| Error::io("claim operation", &path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Claim { _lock: lock, path }),
            Err(_) => Err(Error::new(
                ErrorKind::Conflict,
                "claim operation",
                "another barograph is working on it; wait for it to end",
            )
            .with_resource(id.to_string())),
        }
    }

    /// Writes an operation down; it is durable when this returns.
    ///
    /// # Errors
    /// The disk's: without a journal nothing is begun.
    pub fn save(&self, operation: &Operation) -> Result<()> {
        let path = self.path(operation.id);
        let temporary = path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            let mut file = private(&temporary)?;
            serde_json::to_writer_pretty(&mut file, operation)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| Error::io("write the journal", &path, error))
    }

    /// One operation.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of this id, [`ErrorKind::Invalid`] if its file is damaged.
    pub fn load(&self, id: Token) -> Result<Operation> {
        read(&self.path(id))
    }

    /// Gives an operation up: what was done of it stays, and nobody goes on with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of this id; [`ErrorKind::Conflict`] if it is over, or somebody works on it.
    pub fn abandon(&self, id: Token) -> Result<Operation> {
        let mut operation = self.load(id)?;
        let _claim = self.claim(id)?;
        if operation.phase.is_over() {
            let reason = format!("it is {} already", operation.phase);
            let error = Error::new(ErrorKind::Conflict, "abandon operation", reason);
            return Err(error.with_resource(id.to_string()));
        }
        operation.phase = super::Phase::Abandoned;
        operation.updated_at = crate::model::Timestamp::now();
        self.save(&operation)?;
        Ok(operation)
    }

    /// All operations, oldest first, and the files that cannot be read.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<(Vec<Operation>, Vec<Error>)> {
        let entries =
            fs::read_dir(&self.folder).map_err(|error| Error::io("read the journal", &self.folder, error))?;
        let (mut operations, mut errors) = (Vec::new(), Vec::new());
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "json") {
                match read(&path) {
                    Ok(operation) => operations.push(operation),
                    Err(error) => errors.push(error),
                }
            }
        }
        operations.sort_by_key(|operation| operation.id);
        Ok((operations, errors))
    }

    /// Forgets the oldest operations that are over, beyond some hundred. What cannot be removed stays.
    pub fn tidy(&self) {
        let Ok((operations, _)) = self.list() else { return };
        let over: Vec<_> = operations.iter().filter(|operation| operation.phase.is_over()).collect();
        for operation in over.iter().take(over.len().saturating_sub(KEPT)) {
            if let Err(error) = fs::remove_file(self.path(operation.id)) {
                tracing::debug!(%error, id = %operation.id, "an old operation stays in the journal");
            }
        }
    }

    fn path(&self, id: Token) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock goes with the file; the name is only tidied away.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file that only its owner reads.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn read(path: &Path) -> Result<Operation> {
    let text = fs::read(path).map_err(|error| Error::io("read operation", path, error))?;
    serde_json::from_slice(&text).map_err(|error| {
        let reason = "the file is damaged, or of another version; what it stood for may be in flight";
        Error::invalid("read operation", reason).with_resource(path.display().to_string()).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;
    use crate::model::resource::{Kind, ResourceId};
    use crate::provider::{Action, Plan};

    fn operation() -> Operation {
        let id: ResourceId = "kvm/a/here/instance/i".parse().unwrap();
        assert_eq!(id.kind, Kind::Instance);
        Operation::new("guests", None, Plan::simple(&Action::Start { instance: id.into() }, None))
    }

    #[test]
    fn operations_come_back_and_a_damaged_file_is_named() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let (first, second) = (operation(), operation());
        journal.save(&second).unwrap();
        journal.save(&first).unwrap();
        assert_eq!(journal.load(first.id).unwrap(), first);
        fs::write(journal.folder.join("x.json"), "{").unwrap();
        let (listed, errors) = journal.list().unwrap();
        assert_eq!(listed, [first, second]);
        assert!(errors[0].to_string().contains("x.json"));
        let missing = journal.load(Token::random()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_is_in_it_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let operation = operation();
        journal.save(&operation).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&journal.folder), 0o700);
        assert_eq!(mode(&journal.path(operation.id)), 0o600);
        Journal::open(data.path()).unwrap();
    }

    #[test]
    fn one_operation_has_one_worker() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let id = Token::random();
        let claim = journal.claim(id).unwrap();
        assert_eq!(journal.claim(id).unwrap_err().kind(), ErrorKind::Conflict);
        drop(claim);
        journal.claim(id).unwrap();
    }

    #[test]
    fn what_is_given_up_is_over_and_stays_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let open = operation();
        journal.save(&open).unwrap();
        let claim = journal.claim(open.id).unwrap();
        assert_eq!(journal.abandon(open.id).unwrap_err().kind(), ErrorKind::Conflict, "somebody works on it");
        drop(claim);
        assert_eq!(journal.abandon(open.id).unwrap().steps, open.steps);
        assert_eq!(journal.load(open.id).unwrap().phase, Phase::Abandoned);
        assert_eq!(journal.abandon(open.id).unwrap_err().kind(), ErrorKind::Conflict, "it is over");
    }

    #[test]
    fn what_is_over_is_forgotten_in_the_end_and_what_is_not_stays() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let open = operation();
        journal.save(&open).unwrap();
        for _ in 0..KEPT + 3 {
            journal.save(&Operation { phase: Phase::Done, ..operation() }).unwrap();
        }
        journal.tidy();
        let (listed, _) = journal.list().unwrap();
        assert_eq!(listed.len(), KEPT + 1);
        assert_eq!(listed[0], open);
    }
}
