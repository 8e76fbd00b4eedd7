//! A frame: one batch as bytes.
//!
//! ```text
//! magic u32 | length u32 | crc u32 | name length u32 | rows u64 | table name, padded | Arrow IPC stream, padded
//! ```
//!
//! Numbers are little-endian, the two parts are padded to eight bytes, and `length` counts both with their padding. The CRC-32 is
//! over segment number, offset, the two lengths, the rows, and both parts.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use crc32fast::Hasher;

use super::Position;
use crate::model::MetricBatch;
use crate::{Error, Result};

/// Bytes before the two parts.
pub(super) const HEADER_BYTES: u64 = 24;
/// Frames begin at multiples of this, so that they are found again after damage.
pub(super) const ALIGNMENT: u64 = 8;
/// What a frame begins with: bytes that are not UTF-8, so that no text looks like it.
pub(super) const MAGIC: u32 = u32::from_le_bytes([0xba, 0x60, 0xf7, 0xa3]);
/// Larger batches are refused: a reader holds one frame at a time.
const MAX_LENGTH: usize = 1 << 30;

/// A frame that does not know its place yet.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    parts: Hasher,
}

/// Lengths and checksum of a frame as its header says them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) length: u32,
    crc: u32,
    name_length: u32,
    /// So that rows can be counted without reading them.
    pub(super) rows: u64,
}

/// About how many bytes the frame of a batch will have. Counts the rows of a slice only, and not the frame that a
/// decoded batch came in, which all its columns share.
pub(super) fn estimate(batch: &MetricBatch) -> usize {
    // Schema, and padding of every buffer.
    const EACH: usize = 512;
    let records = batch.records();
    let column = |column: &ArrayRef| EACH + column.to_data().get_slice_memory_size().unwrap_or(0);
    HEADER_BYTES as usize + EACH + records.columns().iter().map(column).sum::<usize>()
}

/// Turns a batch into a frame.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] if the batch is larger than a frame may be.
pub(super) fn encode(batch: &MetricBatch) -> Result<Encoded> {
    let unable = |reason: &str| Error::invalid("log a batch of", reason).with_resource(batch.table());
    let refused = |e| unable("Arrow cannot encode it").with_source(e);
    let name = batch.table().as_bytes();
    let mut bytes = Vec::with_capacity(estimate(batch).min(MAX_LENGTH));
    bytes.resize(HEADER_BYTES as usize, 0);
    bytes.extend_from_slice(name);
    pad(&mut bytes);
    let records = batch.records();
    let mut writer = StreamWriter::try_new(bytes, records.schema_ref()).map_err(refused)?;
    writer.write(records).map_err(refused)?;
    writer.finish().map_err(refused)?;
    let mut bytes = writer.into_inner().map_err(refused)?;
    pad(&mut bytes);

    let length = bytes.len() - HEADER_BYTES as usize;
    if length > MAX_LENGTH {
        return Err(unable("it is larger than 1 GiB; send fewer rows at a time"));
    }
    let mut parts = Hasher::new();
    parts.update(&bytes[HEADER_BYTES as usize..]);
    // Both fit: `length` was checked, and the name is a part of it.
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&(name.len() as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&(batch.rows() as u64).to_le_bytes());
    Ok(Encoded { bytes, parts })
}

impl Encoded {
    /// Bytes of the whole frame.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes for this place.
    pub(super) fn at(&mut self, place: Position) -> &[u8] {
        let header = Header::read(&self.bytes);
        let mut crc = header.seed(place);
        crc.combine(&self.parts);
        self.bytes[8..12].copy_from_slice(&crc.finalize().to_le_bytes());
        &self.bytes
    }
}

impl Header {
    /// Reads a header; `None` if these bytes cannot be one.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES as usize]) -> Option<Self> {
        let header = Self::read(bytes);
        let sound = word(bytes, 0) == MAGIC
            && u64::from(header.length) % ALIGNMENT == 0
            && header.length as usize <= MAX_LENGTH
            && header.name_length <= header.length
            // Each has a time at least; more cannot be, and must not be counted.
            && header.rows <= u64::from(header.length) / 8;
        sound.then_some(header)
    }

    fn read(bytes: &[u8]) -> Self {
        let rows = u64::from(word(bytes, 16)) | u64::from(word(bytes, 20)) << 32;
        Self { length: word(bytes, 4), crc: word(bytes, 8), name_length: word(bytes, 12), rows }
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_length(self) -> u64 {
        HEADER_BYTES + u64::from(self.length)
    }

    /// Whether `parts` are those that were written, at this very place.
    pub(super) fn proves(self, parts: &[u8], place: Position) -> bool {
        let mut crc = self.seed(place);
        crc.update(parts);
        crc.finalize() == self.crc
    }

    /// The batch in parts that are proven.
    ///
    /// # Errors
    /// The frame is sound but its content is none that this version understands.
    pub(super) fn decode(self, parts: Vec<u8>) -> Result<MetricBatch> {
        let unable = |reason: &str| Error::invalid("decode a frame of the log", reason);
        let name_length = self.name_length as usize;
        let name = parts.get(..name_length).and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| unable("its table name is no text"))?.to_owned();
        let stream = name_length.next_multiple_of(ALIGNMENT as usize);
        // The arrays of the batch share this memory; nothing is copied.
        let mut stream = Buffer::from_vec(parts).slice(stream);
        let records = StreamDecoder::new()
            .decode(&mut stream)
            .map_err(|e| unable("Arrow cannot read it").with_resource(&name).with_source(e))?
            .ok_or_else(|| unable("it holds no rows").with_resource(&name))?;
        MetricBatch::try_new(&name, records)
    }

    fn seed(self, place: Position) -> Hasher {
        let mut crc = Hasher::new();
        crc.update(&place.segment.to_le_bytes());
        crc.update(&place.offset.to_le_bytes());
        crc.update(&self.length.to_le_bytes());
        crc.update(&self.name_length.to_le_bytes());
        crc.update(&self.rows.to_le_bytes());
        crc
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn batch() -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        builder.row(1_000).set("utilization", 0.5).unwrap().set("core", "0").unwrap();
        builder.row(2_000).set("utilization", 0.25).unwrap();
        builder.finish().unwrap()
    }

    fn decode_at(bytes: &[u8], place: Position) -> Option<MetricBatch> {
        let (header, parts) = bytes.split_first_chunk()?;
        let header = Header::parse(header)?;
        header.proves(parts, place).then(|| header.decode(parts.to_vec()).unwrap())
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let place = Position { segment: 3, offset: 8 };
        let mut frame = encode(&batch()).unwrap();
        assert_eq!(frame.len() % ALIGNMENT, 0);
        assert_eq!(decode_at(frame.at(place), place), Some(batch()));
    }

    #[test]
    fn a_slice_a_decoded_batch_and_no_rows_at_all_take_only_their_own_room() {
        let place = Position { segment: 0, offset: 8 };
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        for time in 0..10_000 {
            builder.row(time).set("utilization", 0.5).unwrap().set("core", "0").unwrap();
        }
        let large = builder.finish().unwrap();
        let decoded = decode_at(encode(&large).unwrap().at(place), place).unwrap();
        for (batch, few) in [(large.clone(), 0), (decoded.slice(7, 5), 5), (decoded.slice(3, 0), 0)] {
            let mut frame = encode(&batch).unwrap();
            assert_eq!(decode_at(frame.at(place), place), Some(batch.clone()));
            let bytes = frame.len() as usize;
            assert!(estimate(&batch) < bytes * 2 + 8_192, "{} for {bytes}", estimate(&batch));
            assert!(bytes < estimate(&batch) + 8_192, "{} for {bytes}", estimate(&batch));
            if batch.rows() < 10_000 {
                assert_eq!(batch.rows(), few);
                assert!(bytes < 10_000, "{bytes}");
            }
        }
    }

    #[test]
    fn a_frame_in_another_place_is_none() {
        let mut frame = encode(&batch()).unwrap();
        let bytes = frame.at(Position { segment: 3, offset: 8 }).to_vec();
        assert_eq!(decode_at(&bytes, Position { segment: 3, offset: 16 }), None);
        assert_eq!(decode_at(&bytes, Position { segment: 4, offset: 8 }), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let place = Position { segment: 1, offset: 8 };
        let mut frame = encode(&batch()).unwrap();
        let sound = frame.at(place).to_vec();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_at(&bytes, place).is_none(), "bit {bit}");
        }
    }
}
