//! The live status of `barograph run` on a terminal: sources, rows per second, lag, queues and the size of the store,
//! redrawn once a second.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::screen::Screen;
use crate::model::Size;
use crate::pipeline::{Monitor, SourcePhase, View};

const REDRAW: Duration = Duration::from_secs(1);
/// Rates are averages over this time, so that a source that collects every ten seconds does not flicker.
const RATE_OVER: Duration = Duration::from_secs(30);
/// The data folder is measured this often.
const MEASURE: u32 = 5;
/// Reasons longer than this are cut; the log has them whole.
const LONGEST_LINE: usize = 200;

/// What is shown beside the pipeline itself.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The data folder, whose size is shown.
    pub data: PathBuf,
    /// Where the HTTP server listens.
    pub address: Option<String>,
}

/// Redraws until `stop` is cancelled, and once more then.
pub async fn show(monitor: Monitor, surroundings: Surroundings, screen: Screen, stop: CancellationToken) {
    let began = Instant::now();
    let mut history = History::default();
    let mut size = 0;
    let mut redraw = tokio::time::interval(REDRAW);
    for round in 0_u32.. {
        let last = tokio::select! {
            _ = redraw.tick() => false,
            () = stop.cancelled() => true,
        };
        if round % MEASURE == 0 || last {
            let folder = surroundings.data.clone();
            size = tokio::task::spawn_blocking(move || folder_size(&folder, 8)).await.unwrap_or(size);
        }
        let view = monitor.view();
        history.push(&view);
        let mut lines = render(&view, &history, size, began.elapsed(), &surroundings);
        lines.iter_mut().for_each(|line| *line = plain(line));
        screen.draw(lines);
        if last {
            screen.release();
            return;
        }
    }
}

/// Rows of each source and sink over the last half minute.
#[derive(Debug, Default)]
struct History(VecDeque<(Instant, Vec<(String, u64)>)>);

impl History {
    fn push(&mut self, view: &View) {
        let now = Instant::now();
        let sources = view.sources.iter().map(|s| (format!("source {}", s.name), s.numbers.rows));
        let sinks = view.sinks.iter().map(|s| (format!("sink {}", s.name), s.balance.delivered));
        self.0.push_back((now, sources.chain(sinks).collect()));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.0.pop_front();
        }
    }

    /// Rows per second of `source NAME` or `sink NAME`.
    fn rate(&self, key: &str) -> f64 {
        let find =
            |rows: &Vec<(String, u64)>| rows.iter().find(|(name, _)| name == key).map(|(_, rows)| *rows);
        let at = |(at, rows): &(Instant, Vec<(String, u64)>)| find(rows).map(|rows| (*at, rows));
        let (Some(first), Some(last)) = (self.0.iter().find_map(at), self.0.back().and_then(at)) else {
            return 0.0;
        };
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let rows = last.1.saturating_sub(first.1) as f64;
        if seconds > 0.0 { rows / seconds } else { 0.0 }
    }
}

fn render(
    view: &View,
    history: &History,
    size: u64,
    running: Duration,
    surroundings: &Surroundings,
) -> Vec<String> {
    let ready = if view.stopping {
        "stopping"
    } else if view.not_ready().is_empty() {
        "ready"
    } else {
        "starting"
    };
    let running = Duration::from_secs(running.as_secs());
    let mut lines = vec![
        format!("-- {} -- {ready} -- running {}", view.pipeline, humantime::format_duration(running)),
        format!(
            "{:<16} {:<9} {:>6} {:>7} {:>10} {:>12} {:>7} {:>8}",
            "source", "state", "every", "shards", "rows/s", "rows", "skipped", "lag"
        ),
    ];
    for source in &view.sources {
        let numbers = &source.numbers;
        let (state, reason) = match &numbers.phase {
            SourcePhase::Starting => ("starting", None),
            SourcePhase::Waiting(reason) => ("waiting", Some(reason)),
            SourcePhase::Running => ("running", None),
        };
        lines.push(format!(
            "{:<16} {:<9} {:>6} {:>7} {:>10.1} {:>12} {:>7} {:>8}",
            source.name,
            state,
            humantime::format_duration(source.every).to_string(),
            numbers.shards.len(),
            history.rate(&format!("source {}", source.name)),
            numbers.rows,
            numbers.skipped,
            format!("{:.1}s", source.lag.as_secs_f64()),
        ));
        lines.extend(reason.map(|reason| format!("  {reason}")));
    }
    lines.push(format!(
        "{:<16} {:<13} {:>9} {:>8} {:>7} {:>10} {:>12} {:>7} {:>8}",
        "sink", "state", "queued", "oldest", "retries", "rows/s", "rows", "dead", "dropped"
    ));
    for sink in &view.sinks {
        lines.push(format!(
            "{:<16} {:<13} {:>9} {:>8} {:>7} {:>10.1} {:>12} {:>7} {:>8}",
            sink.name,
            sink.numbers.phase.as_str(),
            sink.balance.queued,
            format!("{:.1}s", sink.oldest.as_secs_f64()),
            sink.numbers.retries.values().sum::<u64>(),
            history.rate(&format!("sink {}", sink.name)),
            sink.balance.delivered,
            sink.balance.dead_lettered_rows(),
            sink.balance.dropped_rows(),
        ));
        lines.extend(sink.numbers.phase.reason().map(|reason| format!("  {reason}")));
        if let Some(backlog) = sink.numbers.backlog.as_ref().filter(|backlog| backlog.rows > 0) {
            let (bytes, bound) = (Size(backlog.bytes), Size(backlog.max_bytes));
            let blocked = backlog.stuck().map_or_else(String::new, |reason| format!("; {reason}"));
            lines.push(format!("  {} rows wait on disk: {bytes} of {bound}{blocked}", backlog.rows));
        }
    }
    let address =
        surroundings.address.as_ref().map_or_else(String::new, |at| format!("   http://{at}/metrics"));
    lines.push(format!("{} in {}{address}", Size(size), surroundings.data.display()));
    lines
}

/// A line of bearable length, without anything that would move the cursor.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_LINE).collect()
}

/// Bytes of all files below a folder, at most `depth` folders deep. What cannot be read counts nothing.
fn folder_size(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => folder_size(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Balance, SinkNumbers, SinkPhase, SinkView, SourceNumbers, SourceView};

    fn view(rows: u64) -> View {
        let waiting = SourcePhase::Waiting("cannot connect\x1b[2J qemu:///system: no socket".into());
        let source = |name: &str, phase, rows| SourceView {
            name: name.into(),
            every: Duration::from_secs(5),
            numbers: SourceNumbers { phase, rows, ..SourceNumbers::default() },
            lag: Duration::from_millis(2_100),
        };
        View {
            pipeline: "local".into(),
            sources: vec![source("host", SourcePhase::Running, rows), source("guests", waiting, 0)],
            transforms: Vec::new(),
            sinks: vec![SinkView {
                name: "store".into(),
                balance: Balance { accepted: rows, delivered: rows, ..Balance::default() },
                numbers: SinkNumbers { phase: SinkPhase::Open, ..SinkNumbers::default() },
                oldest: Duration::ZERO,
            }],
            letters_discarded: 0,
            reloads: 0,
            reloads_refused: 0,
            stopping: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_shows_rates_reasons_queues_and_size() {
        let mut history = History::default();
        for rows in [0, 100, 200] {
            history.push(&view(rows));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        let surroundings = Surroundings { data: "./data".into(), address: Some("127.0.0.1:9273".into()) };
        let text = render(&view(200), &history, 3 << 20, Duration::from_secs(62), &surroundings).join("\n");
        for word in ["local", "running 1m 2s", "20.0", "2.1s", "no socket", "3MiB in ./data", "9273/metrics"]
        {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
    }

    #[test]
    fn lines_are_bounded_and_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2J\nb"), "a [2J b");
        assert_eq!(plain(&"x".repeat(10_000)).len(), LONGEST_LINE);
    }

    #[test]
    fn the_size_of_a_folder_is_that_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("a"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("deep/b"), [0; 32]).unwrap();
        assert_eq!(folder_size(folder.path(), 8), 42);
        assert_eq!(folder_size(&folder.path().join("nothing"), 8), 0);
    }
}
