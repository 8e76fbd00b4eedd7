//! Rows that are in the log but not in segments yet, by table and time window.
//!
//! Fresh batches gather unsorted in a tail. Whoever looks (a snapshot, a flush) seals the tails into chunks; a chunk is
//! sorted when it is first needed, once, by whoever needs it, and outside of any lock that writers take. Small
//! neighbouring chunks are joined at the next sealing, so that frequent looking keeps runs few and sorting cheap.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use parking_lot::Mutex;

use super::buffer::Buffer;
use super::options::Window;
use crate::model::MetricBatch;
use crate::{Error, Result};

/// Rows per batch of sorted data.
pub(super) const BATCH_ROWS: usize = 8_192;

/// A chunk below this many rows is joined with what follows it.
const SMALL: usize = 65_536;

/// The writable rows.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shards: BTreeMap<Arc<str>, BTreeMap<Window, Shard>>,
    rows: usize,
    bytes: usize,
}

/// The rows of one table and window, in order of arrival: chunks, then the tail.
#[derive(Debug, Default)]
struct Shard {
    chunks: Vec<Arc<Chunk>>,
    tail: Vec<RecordBatch>,
    tail_rows: usize,
}

/// The rows of a batch by the time window they belong to. Taking rows apart is all that could fail on their way into
/// memory, so it is done before they are logged: what is logged can be buffered.
#[derive(Debug)]
pub(super) struct WindowedBatch {
    table: Arc<str>,
    parts: Vec<(Window, RecordBatch)>,
}

impl WindowedBatch {
    /// Takes a batch apart by windows of `length` nanoseconds.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if Arrow cannot copy the rows.
    pub(super) fn split(batch: &MetricBatch, length: i64) -> Result<Self> {
        let table = Arc::from(batch.table());
        let times = batch.times();
        let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) else {
            return Ok(Self { table, parts: Vec::new() });
        };
        let first = Window::of(*min, length);
        if first == Window::of(*max, length) {
            return Ok(Self { table, parts: vec![(first, batch.records().clone())] });
        }
        let mut rows: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0_u32..).zip(times) {
            rows.entry(Window::of(*time, length)).or_default().push(row);
        }
        let parts = rows.into_iter().map(|(window, rows)| {
            arrow::compute::take_record_batch(batch.records(), &UInt32Array::from(rows))
                .map(|records| (window, records))
                .map_err(|e| {
                    Error::invalid("split a batch by time windows", "Arrow refused it")
                        .with_provider("store")
                        .with_resource(batch.table())
                        .with_source(e)
                })
        });
        Ok(Self { parts: parts.collect::<Result<_>>()?, table })
    }
}

/// Rows held still: chunks in rising precedence by table and window.
pub(super) type Frozen = BTreeMap<Arc<str>, BTreeMap<Window, Vec<Arc<Chunk>>>>;

impl Memory {
    /// Rows, counting repeated keys each time.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the batches as they came.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes rows in.
    pub(super) fn push(&mut self, rows: WindowedBatch) {
        for (window, records) in rows.parts {
            self.put(&rows.table, window, records);
        }
    }

    fn put(&mut self, table: &Arc<str>, window: Window, records: RecordBatch) {
        self.rows += records.num_rows();
        self.bytes += size(&records);
        let shard = self.shards.entry(Arc::clone(table)).or_default().entry(window).or_default();
        shard.tail_rows += records.num_rows();
        shard.tail.push(records);
    }

    /// What is in here, held still; later pushes do not show in it.
    pub(super) fn seal(&mut self) -> Frozen {
        let seal = |(window, shard): (&Window, &mut Shard)| {
            shard.seal();
            (*window, shard.chunks.clone())
        };
        self.shards
            .iter_mut()
            .map(|(table, windows)| (Arc::clone(table), windows.iter_mut().map(seal).collect()))
            .collect()
    }
}

/// Bytes that a batch adds. What Arrow says for a slice, or for columns read from one log frame, counts shared memory
/// once per column, so the rows' own bytes count here, and something for the structures around them.
fn size(records: &RecordBatch) -> usize {
    const STRUCTURES: usize = 256;
    let own = |column: &ArrayRef| {
        let data = column.to_data();
        STRUCTURES + data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
    };
    records.columns().iter().map(own).sum()
}

impl Shard {
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut batches = std::mem::take(&mut self.tail);
        let mut rows = std::mem::take(&mut self.tail_rows);
        while let Some(last) = self.chunks.last()
            && (last.rows < SMALL || last.rows <= 2 * rows)
            && let Some(mut earlier) = last.batches()
        {
            rows += last.rows;
            earlier.append(&mut batches);
            batches = earlier;
            self.chunks.pop();
        }
        self.chunks.push(Arc::new(Chunk { rows, state: Mutex::new(State::Raw(batches)) }));
    }
}

/// Batches of one table and window, sorted on demand.
#[derive(Debug)]
pub(super) struct Chunk {
    rows: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Raw(Vec<RecordBatch>),
    Sorted(Arc<[RecordBatch]>),
}

impl Chunk {
    /// The rows sorted, each key once.
    pub(super) fn sorted(&self) -> Result<Arc<[RecordBatch]>> {
        let mut state = self.state.lock();
        let batches = match &*state {
            State::Sorted(sorted) => return Ok(Arc::clone(sorted)),
            State::Raw(batches) => batches,
        };
        let mut buffer = Buffer::default();
        for batch in batches {
            buffer.push(batch.clone());
        }
        let sorted: Arc<[RecordBatch]> = buffer.sorted(BATCH_ROWS)?.into();
        *state = State::Sorted(Arc::clone(&sorted));
        Ok(sorted)
    }

    /// The batches as they are now, or `None` while they are being sorted: nobody waits for that here.
    fn batches(&self) -> Option<Vec<RecordBatch>> {
        Some(match &*self.state.try_lock()? {
            State::Raw(batches) => batches.clone(),
            State::Sorted(sorted) => sorted.to_vec(),
        })
    }
}
