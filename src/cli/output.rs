//! Printing batches: as a table for people, or streaming as JSON, NDJSON, CSV or Parquet.

use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::json::{Writer as JsonWriter, WriterBuilder};
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::{Error, Result};

/// Times in JSON and CSV, with their zone, so that nobody takes them for local ones.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Rows that a table for people shows; what is left out is said on standard error.
const TABLE_ROWS: usize = 10_000;

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A drawn table, for people; at most 10,000 rows
    Table,
    /// One JSON array of objects
    Json,
    /// One JSON object per line
    Ndjson,
    /// Comma separated, with a header
    Csv,
    /// A Parquet file
    Parquet,
}

/// Where an answer goes and in which form.
#[derive(Debug)]
pub(super) struct Target {
    format: Format,
    file: Option<PathBuf>,
}

impl Target {
    /// Decides the form where none is asked for: what the file's name ends in, a table on a terminal, else NDJSON.
    pub(super) fn new(format: Option<Format>, file: Option<PathBuf>, terminal: bool) -> Result<Self> {
        let by_name = || {
            let extension = file.as_deref()?.extension()?.to_str()?;
            Format::from_str(extension, true).ok()
        };
        let to_terminal = terminal && file.is_none();
        let otherwise = if to_terminal { Format::Table } else { Format::Ndjson };
        let format = format.or_else(by_name).unwrap_or(otherwise);
        if format == Format::Parquet && to_terminal {
            let reason = "a terminal cannot show Parquet; add --output FILE or send it into a pipe";
            return Err(Error::invalid("print the answer", reason));
        }
        Ok(Self { format, file })
    }

    /// The form.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Opens it for rows of this schema.
    ///
    /// # Errors
    /// Two columns have one name and the form is not for people: readers of the others find columns by name, and keep
    /// only one of the two. Or the file cannot be made.
    pub(super) fn open(self, schema: SchemaRef) -> Result<Output> {
        if self.format != Format::Table
            && let Some(name) = twice(&schema)
        {
            let reason = format!("two columns are called {name}; give one another name with AS");
            return Err(Error::invalid("print the answer", reason));
        }
        let (sink, partial): (Box<dyn Write + Send>, _) = match &self.file {
            None => (Box::new(io::stdout()), None),
            Some(path) => {
                let partial = Partial::beside(path);
                let file = std::fs::File::create(&partial.temporary)
                    .map_err(|error| Error::io("create", &partial.temporary, error))?;
                (Box::new(file), Some(partial))
            }
        };
        let sink = BufWriter::new(sink);
        let time = || TIME_FORMAT.to_owned();
        let json = || WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(time());
        let writer = match self.format {
            Format::Table => Writer::Table { sink, schema, rows: Vec::new(), shown: 0, left_out: 0 },
            Format::Json => Writer::Json(json().build(sink)),
            Format::Ndjson => Writer::Ndjson(json().build(sink)),
            Format::Csv => {
                let csv = csv::WriterBuilder::new().with_timestamp_format(time());
                Writer::Csv(Box::new(csv.build(sink)), schema)
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(sink, schema, Some(properties))
                    .map_err(|error| unwritten(Failure::Parquet(error)))?;
                Writer::Parquet(Box::new(writer))
            }
        };
        Ok(Output { writer, partial, begun: false })
    }
}

/// A name that more than one column has.
fn twice(schema: &Schema) -> Option<&str> {
    let mut seen = HashSet::new();
    schema.fields().iter().map(|field| field.name().as_str()).find(|name| !seen.insert(*name))
}

type Sink = BufWriter<Box<dyn Write + Send>>;

enum Writer {
    /// Held back, because the width of a column is known only at the end.
    Table {
        sink: Sink,
        schema: SchemaRef,
        rows: Vec<RecordBatch>,
        shown: usize,
        left_out: usize,
    },
    Json(JsonWriter<Sink, JsonArray>),
    Ndjson(JsonWriter<Sink, LineDelimited>),
    Csv(Box<csv::Writer<Sink>>, SchemaRef),
    Parquet(Box<ArrowWriter<Sink>>),
}

/// An answer being written. Unless [`Output::finish`] succeeds, no file appears.
pub(super) struct Output {
    writer: Writer,
    partial: Option<Partial>,
    begun: bool,
}

impl Output {
    /// Writes rows; `Break` says that nobody reads any more (`| head`), which ends the command quietly.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<ControlFlow<()>> {
        self.begun = true;
        let written = match &mut self.writer {
            Writer::Table { rows, shown, left_out, .. } => {
                let fit = batch.num_rows().min(TABLE_ROWS.saturating_sub(*shown));
                if fit > 0 {
                    rows.push(batch.slice(0, fit));
                }
                *shown += fit;
                *left_out += batch.num_rows() - fit;
                Ok(())
            }
            Writer::Json(writer) => writer.write(batch).map_err(Failure::Arrow),
            Writer::Ndjson(writer) => writer.write(batch).map_err(Failure::Arrow),
            Writer::Csv(writer, _) => writer.write(batch).map_err(Failure::Arrow),
            Writer::Parquet(writer) => writer.write(batch).map_err(Failure::Parquet),
        };
        match written {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(failure) if failure.is_closed_pipe() => Ok(ControlFlow::Break(())),
            Err(failure) => Err(unwritten(failure)),
        }
    }

    /// Ends the answer; a file gets its name now.
    pub(super) fn finish(self) -> Result<()> {
        match self.writer.finish(self.begun) {
            Ok(()) => self.partial.map_or(Ok(()), Partial::complete),
            Err(failure) if failure.is_closed_pipe() => Ok(()),
            Err(failure) => Err(unwritten(failure)),
        }
    }
}

impl Writer {
    fn finish(self, begun: bool) -> Result<(), Failure> {
        let mut sink = match self {
            Self::Table { mut sink, schema, rows, shown, left_out } => {
                let table = pretty_format_batches_with_schema(schema, &rows)?;
                writeln!(sink, "{table}")?;
                sink.flush()?;
                let plural = if shown == 1 { "" } else { "s" };
                let note = match left_out {
                    0 => format!("{shown} row{plural}"),
                    _ => format!(
                        "the first {shown} rows of {}; --format ndjson, csv or parquet writes all",
                        shown + left_out
                    ),
                };
                // A note for people only; where standard error is closed nobody misses it.
                if left_out > 0 || io::stderr().is_terminal() {
                    writeln!(io::stderr(), "{note}").ok();
                }
                return Ok(());
            }
            Self::Json(mut writer) => {
                writer.finish()?;
                let mut sink = writer.into_inner();
                writeln!(sink)?;
                sink
            }
            Self::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Csv(mut writer, schema) => {
                if !begun {
                    // An empty answer still has a header.
                    writer.write(&RecordBatch::new_empty(schema))?;
                }
                writer.into_inner()
            }
            Self::Parquet(writer) => writer.into_inner()?,
        };
        Ok(sink.flush()?)
    }
}

/// A file that is being written under another name in the same folder; removed unless completed.
struct Partial {
    temporary: PathBuf,
    path: PathBuf,
}

impl Partial {
    fn beside(path: &Path) -> Self {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".partial-{}", std::process::id()));
        Self { temporary: path.with_file_name(name), path: path.to_owned() }
    }

    fn complete(self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.path).map_err(|error| Error::io("create", &self.path, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After completion there is nothing to remove.
        std::fs::remove_file(&self.temporary).ok();
    }
}

/// Why rows could not be written.
enum Failure {
    Io(io::Error),
    Arrow(ArrowError),
    Parquet(ParquetError),
}

impl Failure {
    /// Whether the reader of the pipe has gone. The libraries keep the code only in the text in some places.
    fn is_closed_pipe(&self) -> bool {
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        match self {
            Self::Io(error) => broken(error),
            Self::Arrow(ArrowError::IoError(_, error)) => broken(error),
            Self::Arrow(other) => other.to_string().contains("Broken pipe"),
            Self::Parquet(other) => other.to_string().contains("Broken pipe"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

fn unwritten(failure: Failure) -> Error {
    match failure {
        Failure::Io(error) => Error::io("write the answer to", "the output", error),
        Failure::Arrow(ArrowError::IoError(_, error)) => {
            Error::io("write the answer to", "the output", error)
        }
        Failure::Arrow(error) => {
            Error::invalid("write the answer", "this format cannot hold it").with_source(error)
        }
        Failure::Parquet(error) => {
            Error::invalid("write the answer", "Parquet cannot hold it").with_source(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Float64Array, Int32Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch() -> RecordBatch {
        let hosts = StringArray::from(vec!["a", "b\"c"]);
        let hosts = DictionaryArray::new(Int32Array::from(vec![Some(1), None]), Arc::new(hosts));
        RecordBatch::try_from_iter([
            ("time", Arc::new(TimestampNanosecondArray::from(vec![0, 1_500_000_000])) as _),
            ("host", Arc::new(hosts) as _),
            ("load", Arc::new(Float64Array::from(vec![None, Some(0.5)])) as _),
        ])
        .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer");
        let target = Target::new(Some(format), Some(path.clone()), false).unwrap();
        let mut output = target.open(batch().schema()).unwrap();
        for batch in batches {
            assert!(output.write(batch).unwrap().is_continue());
        }
        assert!(!path.exists(), "the file appears at the end");
        output.finish().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::read(path).unwrap()
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(written(format, batches)).unwrap()
    }

    #[test]
    fn text_formats_keep_nulls_and_quotes() {
        let lines = concat!(
            "{\"time\":\"1970-01-01T00:00:00Z\",\"host\":\"b\\\"c\",\"load\":null}\n",
            "{\"time\":\"1970-01-01T00:00:01.500Z\",\"host\":null,\"load\":0.5}\n"
        );
        assert_eq!(text(Format::Ndjson, &[batch()]), lines);
        assert_eq!(text(Format::Json, &[batch()]), format!("[{}]\n", lines.trim_end().replace('\n', ",")));
        let csv = "time,host,load\n1970-01-01T00:00:00Z,\"b\"\"c\",\n1970-01-01T00:00:01.500Z,,0.5\n";
        assert_eq!(text(Format::Csv, &[batch()]), csv);
        assert!(text(Format::Table, &[batch()]).contains("| 1970-01-01T00:00:01.500 |      | 0.5  |"));
    }

    #[test]
    fn an_empty_answer_is_whole_in_every_format() {
        assert_eq!(text(Format::Ndjson, &[]), "");
        assert_eq!(text(Format::Json, &[]), "[]\n");
        assert_eq!(text(Format::Csv, &[]), "time,host,load\n");
        assert!(text(Format::Table, &[]).contains("| time | host | load |"));
    }

    #[test]
    fn parquet_comes_back_as_it_went() {
        let bytes = bytes::Bytes::from(written(Format::Parquet, &[batch(), batch()]));
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let read = reader.next().unwrap().unwrap();
        assert_eq!(read.num_rows(), 4);
        assert_eq!(read.slice(0, 2).column(2), batch().column(2));
    }

    #[test]
    fn a_table_shows_its_first_rows_and_no_more() {
        let ones = Float64Array::from(vec![1.0; TABLE_ROWS]);
        let ones = RecordBatch::try_from_iter([("one", Arc::new(ones) as _)]).unwrap();
        let target = Target::new(Some(Format::Table), None, false).unwrap();
        let mut output = target.open(ones.schema()).unwrap();
        for _ in 0..2 {
            assert!(output.write(&ones).unwrap().is_continue());
        }
        let Writer::Table { shown, left_out, rows, .. } = output.writer else { panic!() };
        assert_eq!((shown, left_out, rows.len()), (TABLE_ROWS, TABLE_ROWS, 1));
    }

    #[test]
    fn the_form_follows_the_name_the_terminal_and_the_wish() {
        let form = |format, file: Option<&str>, terminal| {
            Target::new(format, file.map(PathBuf::from), terminal).map(|target| target.format)
        };
        assert_eq!(form(None, None, true).unwrap(), Format::Table);
        assert_eq!(form(None, None, false).unwrap(), Format::Ndjson);
        assert_eq!(form(None, Some("a.parquet"), true).unwrap(), Format::Parquet);
        assert_eq!(form(None, Some("a.CSV"), true).unwrap(), Format::Csv);
        assert_eq!(form(None, Some("a.txt"), true).unwrap(), Format::Ndjson);
        assert_eq!(form(Some(Format::Json), Some("a.csv"), true).unwrap(), Format::Json);
        assert!(form(Some(Format::Parquet), None, true).unwrap_err().to_string().contains("--output"));
        assert_eq!(form(Some(Format::Parquet), None, false).unwrap(), Format::Parquet);
    }

    #[test]
    fn two_columns_of_one_name_are_only_shown_to_people() {
        let field = |name: &str| Field::new(name, DataType::Float64, true);
        let schema = Arc::new(Schema::new(vec![field("a"), field("time"), field("Time"), field("time")]));
        let folder = tempfile::tempdir().unwrap();
        let open = |format, schema: &SchemaRef| {
            let target = Target::new(Some(format), Some(folder.path().join("answer")), false).unwrap();
            target.open(Arc::clone(schema)).map(|_| ())
        };
        for format in [Format::Json, Format::Ndjson, Format::Csv, Format::Parquet] {
            let error = open(format, &schema).unwrap_err().to_string();
            assert!(error.contains("two columns are called time; give one another name with AS"), "{error}");
            assert!(open(format, &batch().schema()).is_ok());
        }
        assert!(open(Format::Table, &schema).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_answer_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(Some(Format::Csv), Some(folder.path().join("answer")), false).unwrap();
        let mut output = target.open(batch().schema()).unwrap();
        assert!(output.write(&batch()).unwrap().is_continue());
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_closed_pipe_is_known_through_the_libraries() {
        let broken = || io::Error::new(io::ErrorKind::BrokenPipe, "Broken pipe (os error 32)");
        assert!(Failure::Io(broken()).is_closed_pipe());
        assert!(Failure::Arrow(ArrowError::from(broken())).is_closed_pipe());
        assert!(Failure::Parquet(ParquetError::from(broken())).is_closed_pipe());
        assert!(!Failure::Arrow(ArrowError::DivideByZero).is_closed_pipe());
    }
}
