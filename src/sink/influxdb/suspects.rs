//! Which lines a refusal is about, as far as its words tell. What is found here is tried, not believed, unless the server
//! repeated the line itself.

use arrow::array::Array;

use super::answer::{Cause, Refusal, short};
use crate::model::MetricBatch;
use crate::sink::lines::Lines;

/// Before each line that 1.x and 2.x repeat.
const UNPARSED: &str = "unable to parse '";

/// Lines that the server repeated as ones that do not parse, with its reasons: 1.x and 2.x do so in the order of the
/// request. Each repeated line is passed over as a whole, so that nothing in it is taken for the server's words.
pub(super) fn repeated(message: &str, selection: &[usize], lines: &Lines) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = message;
    let mut candidates = selection.iter();
    while let Some((_, behind)) = rest.split_once(UNPARSED) {
        let line = candidates.by_ref().find_map(|line| {
            let bytes = lines.bytes(*line..*line + 1).trim_ascii_end();
            let behind = behind.as_bytes().strip_prefix(bytes)?.strip_prefix(b"': ")?;
            Some((*line, std::str::from_utf8(behind).ok()?))
        });
        let Some((line, reason)) = line else { break };
        let reason_line = reason.split('\n').next().unwrap_or_default();
        let words = reason_line.split(" dropped=").next().unwrap_or_default();
        found.push((line, format!("the server cannot parse the line: {}", short(words))));
        // The next one stands on a line of its own.
        rest = reason.get(reason_line.len()..).unwrap_or_default();
    }
    found
}

/// The lines that the refusal may be about, and the others; `None` if its words do not tell them apart.
pub(super) fn split(
    refusal: &Refusal,
    selection: &[usize],
    lines: &Lines,
    batches: &[MetricBatch],
) -> Option<(Vec<usize>, Vec<usize>)> {
    let (suspects, others): (Vec<_>, Vec<_>) = match refusal.cause {
        Cause::Conflict => {
            let (field, measurement) = conflict(&refusal.message)?;
            selection.iter().partition(|line| has_field(**line, field, measurement, lines, batches))
        }
        Cause::Retention => {
            let count = refusal.dropped.filter(|count| (1..selection.len()).contains(count))?;
            let mut by_time = selection.to_vec();
            by_time.sort_by_key(|line| time(*line, lines, batches));
            let mut others = by_time.split_off(count);
            by_time.sort_unstable();
            others.sort_unstable();
            (by_time, others)
        }
        Cause::Listed { .. } | Cause::Unparsed | Cause::Schema | Cause::Rows | Cause::Unknown => return None,
    };
    (!suspects.is_empty() && !others.is_empty()).then_some((suspects, others))
}

/// Field and measurement of a type conflict.
fn conflict(message: &str) -> Option<(&str, &str)> {
    let (_, behind) = message.split_once("input field \"")?;
    let (field, behind) = behind.split_once("\" on measurement \"")?;
    let (measurement, _) = behind.split_once("\" is type ")?;
    Some((field, measurement))
}

fn has_field(line: usize, field: &str, measurement: &str, lines: &Lines, batches: &[MetricBatch]) -> bool {
    let Some(origin) = lines.origin(line) else { return false };
    let Some(batch) = batches.get(origin.batch).filter(|batch| batch.table() == measurement) else {
        return false;
    };
    batch.records().column_by_name(field).is_some_and(|column| !column.is_null(origin.row))
}

fn time(line: usize, lines: &Lines, batches: &[MetricBatch]) -> Option<i64> {
    let origin = lines.origin(line)?;
    batches.get(origin.batch)?.times().get(origin.row).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn batch(table: &str, field: &str, times: &[i64]) -> MetricBatch {
        let mut builder = BatchBuilder::new(table, &Identity::host("a")).unwrap();
        for time in times {
            builder.row(*time).set(field, 0.5).unwrap();
        }
        builder.finish().unwrap()
    }

    fn encoded(batches: &[MetricBatch]) -> Lines {
        let mut lines = Lines::default();
        lines.encode(batches);
        lines
    }

    fn refusal(cause: Cause, message: &str, dropped: usize) -> Refusal {
        Refusal { message: message.into(), dropped: Some(dropped), cause }
    }

    #[test]
    fn a_conflict_names_the_lines_with_the_field() {
        let batches = [
            batch("cpu", "utilization", &[1, 2]),
            batch("cpu", "cores", &[3]),
            batch("memory", "utilization", &[4]),
        ];
        let lines = encoded(&batches);
        let conflict = |field: &str| {
            let message = format!(
                "partial write: field type conflict: input field \"{field}\" on measurement \"cpu\" is type float, already exists as type string dropped=2"
            );
            split(&refusal(Cause::Conflict, &message, 2), &[0, 1, 2, 3], &lines, &batches)
        };
        assert_eq!(conflict("utilization"), Some((vec![0, 1], vec![2, 3])));
        assert_eq!(conflict("cores"), Some((vec![2], vec![0, 1, 3])));
        assert_eq!(conflict("steal"), None, "no line has it");
        assert_eq!(
            split(&refusal(Cause::Conflict, "field type conflict", 1), &[0, 1], &lines, &batches),
            None
        );
    }

    #[test]
    fn retention_drops_the_oldest() {
        let batches = [batch("cpu", "cores", &[30, 10, 40, 20])];
        let lines = encoded(&batches);
        let retention =
            |dropped| split(&refusal(Cause::Retention, "", dropped), &[0, 1, 2, 3], &lines, &batches);
        assert_eq!(retention(2), Some((vec![1, 3], vec![0, 2])));
        assert_eq!(retention(4), None);
        assert_eq!(retention(0), None);
    }

    #[test]
    fn repeated_lines_are_found_in_their_order_and_their_text_is_not_read() {
        let batches = [batch("cpu", "cores", &[1, 2, 3])];
        let lines = encoded(&batches);
        let line =
            |number: usize| String::from_utf8_lossy(lines.bytes(number..number + 1)).trim_end().to_owned();
        let message = format!(
            "partial write: unable to parse '{}': invalid number\nunable to parse '{}': bad timestamp dropped=0",
            line(0),
            line(2)
        );
        let found = repeated(&message, &[0, 1, 2], &lines);
        let reason = |words: &str| format!("the server cannot parse the line: {words}");
        assert_eq!(found, [(0, reason("invalid number")), (2, reason("bad timestamp"))]);
        let cut = &message[..message.len() - 60];
        assert_eq!(repeated(cut, &[0, 1, 2], &lines).len(), 1, "the second is cut off");
        assert_eq!(repeated(&message, &[1], &lines), [], "it was not sent");
        assert_eq!(repeated("unable to parse points: EOF", &[0], &lines), []);
    }
}
