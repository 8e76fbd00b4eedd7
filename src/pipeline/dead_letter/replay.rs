//! Giving dead letters to a sink again, once the cause is mended.

use std::sync::Arc;

use super::folder::{Entry, LetterFolder};
use super::letter::Letter;
use crate::Result;
use crate::pipeline::deliver::speaks_about_rows;
use crate::sink::Sink;

/// What became of letters that were replayed, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Rows that the sink has now.
    pub delivered: u64,
    /// Rows that it refused again: they have letters of their own now, with the new reason.
    pub refused: u64,
}

impl LetterFolder {
    /// Writes a letter's rows to a sink and deletes the letter. What is refused again is set aside again.
    ///
    /// # Errors
    /// The sink cannot be written to now, or the letter cannot be read: it stays as it is.
    pub async fn replay(&self, entry: &Entry, component: &str, sink: &Arc<dyn Sink>) -> Result<Replayed> {
        let letter = self.read(entry)?;
        let rows = letter.batch.rows() as u64;
        let batches = [letter.batch];
        let mut refused = 0;
        match sink.write(&batches).await {
            Ok(written) => {
                for rejected in &written.rejected {
                    let batch = batches.first().map(|batch| batch.select(&rejected.rows));
                    if let Some(batch) = batch.transpose()? {
                        refused += batch.rows() as u64;
                        self.write(&Letter::new(component, &rejected.error, batch))?;
                    }
                }
            }
            Err(error) if speaks_about_rows(&error) => {
                let [batch] = batches;
                refused = rows;
                self.write(&Letter::new(component, &error, batch))?;
            }
            Err(error) => return Err(error),
        }
        self.remove(entry)?;
        Ok(Replayed { delivered: rows.saturating_sub(refused), refused })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::doubles::{Mood, Taken, TestSink, batch};
    use super::*;
    use crate::Error;

    fn folder_with_a_letter() -> (tempfile::TempDir, LetterFolder, Entry) {
        let data = tempfile::tempdir().unwrap();
        let folder = LetterFolder::new(data.path());
        folder.write(&Letter::new("influx", &Error::invalid("write", "no"), batch(7, 5))).unwrap();
        let entry = folder.list().unwrap().remove(0);
        (data, folder, entry)
    }

    #[tokio::test]
    async fn a_letter_that_is_taken_is_gone_and_one_that_is_not_stays() {
        let (_data, folder, entry) = folder_with_a_letter();
        let taken = Taken::new(Mood::Down);
        let sink: Arc<dyn Sink> = Arc::new(TestSink(Arc::clone(&taken)));
        folder.replay(&entry, "influx", &sink).await.unwrap_err();
        assert_eq!(folder.list().unwrap().as_slice(), std::slice::from_ref(&entry));
        *taken.mood.lock() = Mood::Good;
        let replayed = folder.replay(&entry, "influx", &sink).await.unwrap();
        assert_eq!((replayed, taken.rows()), (Replayed { delivered: 5, refused: 0 }, 5));
        assert_eq!(folder.list().unwrap(), []);
    }

    #[tokio::test]
    async fn rows_that_are_refused_again_have_a_letter_with_the_new_reason() {
        let (_data, folder, entry) = folder_with_a_letter();
        let sink: Arc<dyn Sink> = Arc::new(TestSink(Taken::new(Mood::RejectsOne)));
        let replayed = folder.replay(&entry, "influx", &sink).await.unwrap();
        assert_eq!(replayed, Replayed { delivered: 4, refused: 1 });
        let entries = folder.list().unwrap();
        let letter = folder.read(&entries[0]).unwrap();
        assert_eq!((entries.len(), letter.batch.rows()), (1, 1));
        assert!(letter.reason.contains("too old"), "{}", letter.reason);
    }
}
