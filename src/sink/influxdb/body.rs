//! The body of a request out of some lines, compressed if wanted. Work that takes long leaves the runtime's threads.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::client::Body;
use super::fault;
use crate::model::MetricBatch;
use crate::sink::lines::Lines;
use crate::{ErrorKind, Result};

/// Compressing this many bytes takes about 2 ms.
const INLINE_BYTES: usize = 256 << 10;
/// Making this many lines takes about 2 ms.
const INLINE_ROWS: usize = 2_000;

/// A body, and how many bytes of lines are in it.
pub(super) async fn make(lines: &Arc<Lines>, selection: &[usize], gzip: bool) -> Result<(Body, usize)> {
    let runs = runs(selection);
    let length = runs.iter().map(|run| lines.bytes(run.clone()).len()).sum();
    let lines = Arc::clone(lines);
    let body = move || {
        let parts = runs.iter().map(|run| lines.bytes(run.clone()));
        let bytes = if gzip { compressed(parts) } else { Bytes::from(parts.collect::<Vec<_>>().concat()) };
        Body { bytes, content_type: "text/plain; charset=utf-8", gzip }
    };
    Ok((aside(length > INLINE_BYTES, body).await?, length))
}

/// The lines of these batches, in memory that was used before.
pub(super) async fn encode(mut lines: Lines, batches: &[MetricBatch]) -> Result<Lines> {
    let rows: usize = batches.iter().map(MetricBatch::rows).sum();
    let batches = batches.to_vec();
    let encode = move || {
        lines.encode(&batches);
        lines
    };
    aside(rows > INLINE_ROWS, encode).await
}

async fn aside<T: Send + 'static>(long: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if !long {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| fault(ErrorKind::Unavailable, "encode rows", "", "the task failed").with_source(e))
}

/// Level 1: higher levels take eight times as long for 7 % fewer bytes of lines.
fn compressed<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for part in parts {
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(part);
    }
    Bytes::from(encoder.finish().unwrap_or_default())
}

/// Ascending numbers as ranges.
fn runs(selection: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for line in selection {
        match runs.last_mut() {
            Some(run) if run.end == *line => run.end += 1,
            _ => runs.push(*line..*line + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::model::{BatchBuilder, Identity};

    #[tokio::test]
    async fn a_body_has_the_selected_lines_and_no_others() {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
        for time in 0..5_000 {
            builder.row(time).set("cores", 1.0).unwrap();
        }
        let lines = Arc::new(encode(Lines::default(), &[builder.finish().unwrap()]).await.unwrap());
        let selection: Vec<_> = (0..5_000).filter(|line| line % 100 != 7).collect();
        let expected: Vec<u8> =
            selection.iter().flat_map(|line| lines.bytes(*line..*line + 1).to_vec()).collect();
        let (plain, length) = make(&lines, &selection, false).await.unwrap();
        assert_eq!((plain.bytes.as_ref(), length), (expected.as_slice(), expected.len()));
        let (body, _) = make(&lines, &selection, true).await.unwrap();
        assert!(body.gzip && body.bytes.len() * 5 < length);
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(body.bytes.as_ref()).read_to_end(&mut read).unwrap();
        assert_eq!(read, expected);
        assert_eq!(make(&lines, &[], false).await.unwrap().1, 0);
    }
}
