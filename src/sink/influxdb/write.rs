//! One write: lines into requests, and what is refused taken apart until it is known which rows it is about.
//!
//! A repeated line replaces itself, so that any part of a request may be sent again at any time. Whenever the server or
//! the way to it fails the whole write fails, and is repeated from its beginning.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{Answer, Cause, Refusal, Verdict, judge};
use super::client::{Body, Client};
use super::config::BatchLimits;
use super::dialect::Target;
use super::metrics::Metrics;
use super::{body, fault, suspects};
use crate::model::MetricBatch;
use crate::sink::lines::{Lines, Origin};
use crate::sink::{Rejected, Written};
use crate::{Error, ErrorKind, Result};

/// Everything a write needs of the sink.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) client: &'a Client,
    pub(super) target: &'a Target,
    pub(super) limits: BatchLimits,
    pub(super) compress: bool,
    pub(super) metrics: &'a Metrics,
}

/// What is known so far.
struct Progress {
    stored: u64,
    /// Rows by batch and reason.
    rejected: BTreeMap<(usize, String), Vec<usize>>,
    /// It was asked whether the server refuses requests without rows too.
    asked: bool,
}

impl Writer<'_> {
    /// Writes the lines of these batches.
    ///
    /// # Errors
    /// Not every line is stored or known to be refused.
    pub(super) async fn write(&self, lines: &Arc<Lines>, batches: &[MetricBatch]) -> Result<Written> {
        let mut progress = Progress { stored: 0, rejected: BTreeMap::new(), asked: false };
        for (origin, reason) in lines.refused() {
            progress.reject(*origin, (*reason).to_owned());
        }
        let left_out = lines.empty() + lines.refused().len() as u64;
        self.metrics.rows_left_out.inc_by(left_out);
        // Selections of lines that are to be sent, the next one first.
        let mut waiting = requests(lines, self.limits);
        while let Some(selection) = waiting.pop_front() {
            let verdict = self.send(lines, &selection).await?;
            let parts = self.take(verdict, selection, lines, batches, &mut progress).await?;
            parts.into_iter().rev().for_each(|part| waiting.push_front(part));
        }
        Ok(progress.finish(lines, batches, self.target))
    }

    /// Draws the conclusion from an answer; gives back what is to be sent again.
    async fn take(
        &self,
        verdict: Verdict,
        selection: Vec<usize>,
        lines: &Lines,
        batches: &[MetricBatch],
        progress: &mut Progress,
    ) -> Result<Vec<Vec<usize>>> {
        let refusal = match verdict {
            Verdict::Stored { odd } => {
                self.metrics.odd_answers.inc_by(u64::from(odd));
                progress.stored += selection.len() as u64;
                return Ok(Vec::new());
            }
            Verdict::Fault { kind, retry, reason } => return Err(self.fault(kind, reason).with_retry(retry)),
            Verdict::TooLarge { reason } => {
                if let [line] = selection[..] {
                    progress.reject_line(line, lines, reason);
                    return Ok(Vec::new());
                }
                let middle = middle_by_bytes(&selection, lines);
                return Ok(cut(selection, middle));
            }
            Verdict::Refused(refusal) => refusal,
        };
        if refusal.cause == Cause::Unknown && !progress.asked {
            progress.asked = true;
            self.ask_without_rows(&refusal).await?;
        }
        let (named, rest_is_stored) = named(&refusal, &selection, lines);
        if !named.is_empty() {
            let bad: HashSet<_> = named.iter().map(|(line, _)| *line).collect();
            let rest: Vec<_> = selection.into_iter().filter(|line| !bad.contains(line)).collect();
            for (line, reason) in named {
                progress.reject_line(line, lines, reason);
            }
            if rest_is_stored {
                progress.stored += rest.len() as u64;
                return Ok(Vec::new());
            }
            return Ok(if rest.is_empty() { Vec::new() } else { vec![rest] });
        }
        // What is wrong with a table is wrong with each of its rows.
        let all = refusal.cause == Cause::Schema && is_of_one_batch(&selection, lines);
        if all || selection.len() == 1 || refusal.dropped == Some(selection.len()) {
            for line in selection {
                progress.reject_line(line, lines, refusal.reason());
            }
            return Ok(Vec::new());
        }
        if let Some((suspects, others)) = suspects::split(&refusal, &selection, lines, batches) {
            return Ok(vec![suspects, others]);
        }
        let middle = middle_by_table(&selection, lines);
        Ok(cut(selection, middle))
    }

    /// A refusal in words that are not known may be about the request as such, for example a header that a proxy does not
    /// like. Then a request without rows is refused in the same words, and no row is to blame.
    async fn ask_without_rows(&self, refusal: &Refusal) -> Result<()> {
        let body =
            Body { bytes: bytes::Bytes::new(), content_type: "text/plain; charset=utf-8", gzip: false };
        let answer = self.post(body).await?;
        match judge(&answer, self.target.dialect()) {
            Verdict::Refused(other) if other.cause == Cause::Unknown && other.message == refusal.message => {
                let reason = format!(
                    "it refuses even a request without rows; check the keys of the sink and what is between ({}{})",
                    answer.status,
                    answer.said()
                );
                Err(self.fault(ErrorKind::Denied, reason))
            }
            Verdict::Fault { kind, retry, reason } => Err(self.fault(kind, reason).with_retry(retry)),
            _ => Ok(()),
        }
    }

    async fn send(&self, lines: &Arc<Lines>, selection: &[usize]) -> Result<Verdict> {
        let (body, length) = body::make(lines, selection, self.compress).await?;
        self.metrics.line_bytes.inc_by(length as u64);
        self.metrics.sent_bytes.inc_by(body.bytes.len() as u64);
        let answer = self.post(body).await?;
        Ok(judge(&answer, self.target.dialect()))
    }

    async fn post(&self, body: Body) -> Result<Answer> {
        let began = Instant::now();
        let url = self.target.write_url(self.client.server());
        let answer = self.client.post(url, body, "write rows to").await;
        let (outcome, status) = match &answer {
            Ok(answer) => (outcome(&judge(answer, self.target.dialect())), Some(answer.status.as_u16())),
            Err(error) => (error.kind().as_str(), None),
        };
        self.metrics.request(outcome, status, began.elapsed());
        answer
    }

    fn fault(&self, kind: ErrorKind, reason: String) -> Error {
        fault(kind, "write rows to", &format!("{} ({})", self.client.server(), self.target), reason)
    }
}

fn outcome(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Stored { .. } => "stored",
        Verdict::Refused(_) => "refused",
        Verdict::TooLarge { .. } => "too_large",
        Verdict::Fault { kind, .. } => kind.as_str(),
    }
}

impl Progress {
    fn reject(&mut self, origin: Origin, reason: String) {
        self.rejected.entry((origin.batch, reason)).or_default().push(origin.row);
    }

    fn reject_line(&mut self, line: usize, lines: &Lines, reason: String) {
        // Every line that was sent has an origin.
        if let Some(origin) = lines.origin(line) {
            self.reject(origin, reason);
        }
    }

    fn finish(self, lines: &Lines, batches: &[MetricBatch], target: &Target) -> Written {
        let rejected = self.rejected.into_iter().map(|((batch, reason), mut rows)| {
            rows.sort_unstable();
            let table = batches.get(batch).map_or("", MetricBatch::table);
            let error = fault(ErrorKind::Invalid, "write rows of", &format!("{table} to {target}"), reason);
            Rejected { batch, rows, error }
        });
        Written { rows: self.stored, empty: lines.empty(), rejected: rejected.collect() }
    }
}

/// Lines that the server named, and whether all others are stored. Numbers outside of the request name nothing.
fn named(refusal: &Refusal, selection: &[usize], lines: &Lines) -> (Vec<(usize, String)>, bool) {
    match &refusal.cause {
        Cause::Listed { lines: listed, complete } => {
            let mut named = BTreeMap::new();
            let mut all = true;
            for (number, reason) in listed {
                match selection.get(*number) {
                    Some(line) => drop(named.entry(*line).or_insert_with(|| reason.clone())),
                    None => all = false,
                }
            }
            (named.into_iter().collect(), *complete && all)
        }
        Cause::Unparsed => (suspects::repeated(&refusal.message, selection, lines), false),
        _ => (Vec::new(), false),
    }
}

/// All lines, in requests within the limits. A line that alone is over the limit of bytes is a request of its own.
fn requests(lines: &Lines, limits: BatchLimits) -> VecDeque<Vec<usize>> {
    let most = usize::try_from(limits.bytes.0).unwrap_or(usize::MAX);
    let mut requests = VecDeque::new();
    let (mut request, mut bytes) = (Vec::new(), 0);
    for line in 0..lines.count() {
        let length = lines.bytes(line..line + 1).len();
        if !request.is_empty() && (request.len() >= limits.rows || bytes + length > most) {
            requests.push_back(std::mem::take(&mut request));
            bytes = 0;
        }
        request.push(line);
        bytes += length;
    }
    if !request.is_empty() {
        requests.push_back(request);
    }
    requests
}

fn is_of_one_batch(selection: &[usize], lines: &Lines) -> bool {
    let batch = |line: Option<&usize>| line.and_then(|line| lines.origin(*line)).map(|origin| origin.batch);
    batch(selection.first()) == batch(selection.last())
}

fn cut(mut selection: Vec<usize>, middle: usize) -> Vec<Vec<usize>> {
    let second = selection.split_off(middle);
    vec![selection, second]
}

/// Where both halves have about as many bytes.
fn middle_by_bytes(selection: &[usize], lines: &Lines) -> usize {
    let length = |line: &usize| lines.bytes(*line..*line + 1).len();
    let half = selection.iter().map(length).sum::<usize>() / 2;
    let mut before = 0;
    let middle = selection.iter().take_while(|line| {
        before += length(line);
        before <= half
    });
    middle.count().clamp(1, selection.len() - 1)
}

/// The border between two batches that is nearest to the middle, if there is one: what is wrong is often wrong with a whole
/// table.
fn middle_by_table(selection: &[usize], lines: &Lines) -> usize {
    let batch =
        |place: usize| selection.get(place).and_then(|line| lines.origin(*line)).map(|origin| origin.batch);
    let half = selection.len() / 2;
    let borders = (1..selection.len()).filter(|place| batch(*place) != batch(place - 1));
    borders.min_by_key(|place| place.abs_diff(half)).unwrap_or(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity, Size};

    fn lines(rows: &[usize]) -> Lines {
        let batch = |rows: &usize| {
            let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
            for time in 0..i64::try_from(*rows).unwrap() {
                builder.row(1_000 + time).set("cores", 1.0).unwrap();
            }
            builder.finish().unwrap()
        };
        let mut lines = Lines::default();
        lines.encode(&rows.iter().map(batch).collect::<Vec<_>>());
        lines
    }

    #[test]
    fn requests_keep_to_rows_and_bytes_and_have_every_line_once() {
        let lines = lines(&[7, 3]);
        let length = lines.bytes(0..1).len() as u64;
        let sizes = |rows, bytes| {
            let requests =
                requests(&lines, BatchLimits { rows, bytes: Size(bytes), ..BatchLimits::default() });
            assert_eq!(requests.iter().flatten().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
            requests.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(100, 1 << 20), [10]);
        assert_eq!(sizes(4, 1 << 20), [4, 4, 2]);
        assert_eq!(sizes(100, length * 3), [3, 3, 3, 1]);
        assert_eq!(sizes(100, 1), [1; 10], "a line over the limit goes alone");
        assert!(requests(&Lines::default(), BatchLimits::default()).is_empty());
    }

    #[test]
    fn halves_are_cut_at_tables_first_and_are_never_empty() {
        let lines = lines(&[3, 9, 1, 1]);
        let all: Vec<_> = (0..14).collect();
        assert_eq!(middle_by_table(&all, &lines), 3, "7 is nearer to 3 than to 12");
        assert_eq!(middle_by_table(&all[3..12], &lines), 4);
        assert_eq!(middle_by_table(&all[12..], &lines), 1);
        assert_eq!(middle_by_bytes(&all, &lines), 7);
        assert_eq!(middle_by_bytes(&all[..2], &lines), 1);
    }
}
