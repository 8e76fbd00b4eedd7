//! Writing a sorted stream to one or more segments of a window.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::SegmentMeta;
use super::merge::BatchStream;
use super::options::Window;
use super::root::Root;
use super::segment::SegmentWriter;
use super::state::now_millis;
use crate::{Error, Result};

/// Folder of the segments.
pub(super) const FOLDER: &str = "segments";

/// Where a stream goes.
pub(super) struct Output<'a> {
    pub(super) root: &'a Root,
    pub(super) table: &'a str,
    pub(super) window: Window,
    pub(super) precedence: u64,
    /// A file is closed at about this size, and the next one goes on from there.
    pub(super) segment_bytes: u64,
    /// Ends the writing early: for work that can as well be done later.
    pub(super) stop: Option<&'a CancellationToken>,
}

impl Output<'_> {
    /// Writes all rows; durable on return, and listed in the order of their rows. After an error nothing is left.
    pub(super) async fn write(&self, schema: SchemaRef, rows: BatchStream) -> Result<Vec<SegmentMeta>> {
        let mut done = Vec::new();
        match self.try_write(schema, rows, &mut done).await {
            Ok(()) => Ok(done),
            Err(error) => {
                discard(self.root, done.iter()).await;
                Err(error)
            }
        }
    }

    async fn try_write(
        &self,
        schema: SchemaRef,
        mut rows: BatchStream,
        done: &mut Vec<SegmentMeta>,
    ) -> Result<()> {
        let mut writer: Option<SegmentWriter> = None;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            if self.stop.is_some_and(CancellationToken::is_cancelled) {
                return Err(Error::unavailable("compact", "the store is being closed").with_provider("store"));
            }
            if batch.num_rows() == 0 {
                continue;
            }
            let mut open = match writer.take() {
                Some(open) => open,
                None => self.create(Arc::clone(&schema))?,
            };
            open.write(&batch).await?;
            if open.bytes() >= self.segment_bytes {
                done.push(open.finish().await?);
            } else {
                writer = Some(open);
            }
        }
        if let Some(open) = writer {
            done.push(open.finish().await?);
        }
        Ok(())
    }

    fn create(&self, schema: SchemaRef) -> Result<SegmentWriter> {
        let id = new_id();
        let path = format!("{FOLDER}/{}/{}-{id}.parquet", folder(self.table), day(self.window));
        SegmentWriter::create(self.root, path, id, self.window, self.precedence, schema)
    }
}

/// Deletes segments that no commit names.
pub(super) async fn discard(root: &Root, segments: impl Iterator<Item = &SegmentMeta>) {
    for segment in segments {
        if let Err(error) = root.remove(&segment.path).await {
            tracing::warn!(error = %error.chain(), "cannot delete an unused segment; the next opening sweeps it");
        }
    }
}

/// When a segment was written, in milliseconds since 1970 UTC, as its id tells.
pub(super) fn written_at(segment: &SegmentMeta) -> i64 {
    let time = segment.id.split('-').next().unwrap_or_default();
    i64::from_str_radix(time, 16).unwrap_or_default()
}

/// Time first, so that files sort by age, then chance, so that no two are alike.
fn new_id() -> String {
    format!("{:012x}-{:08x}", now_millis(), fastrand::u32(..))
}

/// A table's folder: its name, with what a path cannot hold replaced. Ids keep files apart where two names meet.
fn folder(table: &str) -> String {
    table.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}

/// The window's start for people who look into the folder.
fn day(window: Window) -> String {
    chrono::DateTime::from_timestamp_nanos(window.start).format("%Y%m%dT%H%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        assert_eq!(folder("../cpu load"), "___cpu_load");
        assert_eq!(day(Window { start: 0, end: 1 }), "19700101T0000");
        assert_eq!(day(Window { start: i64::MIN, end: 1 }), "16770921T0012");
    }
}
