//! What is told and what is not, and that a pipeline tells when its sources and sinks work again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::subscriber::DefaultGuard;

use super::super::doubles::*;
use super::super::plan::SinkPlan;
use super::super::runner::Runner;
use super::*;
use crate::provider::Shard;
use crate::{Error, Result};

#[tokio::test(start_paused = true)]
async fn the_first_is_told_and_then_one_a_minute_with_the_number_left_out() {
    let limit = LogLimit::default();
    assert_eq!(limit.pass("a"), Some(None));
    assert_eq!(limit.pass("a"), None);
    assert_eq!(limit.pass("b"), Some(None));
    assert_eq!(limit.pass("a"), None);
    tokio::time::advance(INTERVAL).await;
    assert_eq!(limit.pass("a"), Some(NonZeroU64::new(2)));
    assert_eq!(limit.forget("a"), Some(Span(INTERVAL)));
    assert_eq!(limit.forget("a"), None);
    assert_eq!(limit.pass("a"), Some(None));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_known_once_and_only_if_it_was_told() {
    let limit = LogLimit::default();
    for key in ["x/a", "x/b", "y/a"] {
        assert!(limit.pass(key).is_some());
    }
    tokio::time::advance(INTERVAL / 2).await;
    let a = || vec![("a".to_owned(), Span(INTERVAL / 2))];
    assert_eq!(limit.over("x/", &["x/b".into()]), a());
    assert_eq!(limit.over("x/", &["x/b".into()]), []);
    // It comes back too early to be told, and passes.
    assert_eq!(limit.pass("x/a"), None);
    assert_eq!(limit.over("x/", &["x/b".into()]), []);
    tokio::time::advance(INTERVAL).await;
    assert_eq!(limit.pass("x/a"), Some(NonZeroU64::new(1)));
    tokio::time::advance(INTERVAL / 2).await;
    assert_eq!(limit.over("x/", &["x/b".into()]), a());
}

#[tokio::test(start_paused = true)]
async fn memory_stays_bounded_when_everything_differs() {
    let limit = LogLimit::default();
    let told = (0..5_000).filter(|i| limit.pass(&i.to_string()).is_some()).count();
    assert_eq!(told, REMEMBERED);
    tokio::time::advance(INTERVAL).await;
    assert_eq!(limit.pass("new"), Some(None));
    assert!(limit.told.lock().len() <= REMEMBERED);
}

/// The lines that this thread logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn listen(&self) -> (tracing::Dispatch, DefaultGuard) {
        let lines = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || lines.clone())
            .finish();
        // While there is only one subscriber, tracing asks the thread that comes to a line first whether anybody
        // wants it, and that may be the thread of another test.
        let other = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
        (other, tracing::subscriber::set_default(subscriber))
    }

    fn about(&self, what: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().filter(|line| line.contains(what)).map(|line| line.trim().to_owned()).collect()
    }
}

async fn pass_time(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn sources_and_their_parts_tell_when_they_work_again() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let folder = tempfile::tempdir().unwrap();
    // That nothing was asked once says nothing about what failed before.
    let acts = [Act::Rows(1), Act::Fail, Act::Fail, Act::Fault(1), Act::Idle, Act::Fault(1), Act::Rows(1)];
    let from = TestSource::new(&acts);
    *from.shards.lock() = Err("no socket".into());
    let sinks = vec![sink("one", &Taken::new(Mood::Good))];
    let plan = plan(folder.path(), vec![source("guests", 10, &from)], sinks);
    let runner = Runner::start_with(plan, TestClock::at(0)).await.unwrap();
    pass_time(30).await;
    assert_eq!(lines.about("WARN source waits").len(), 1);
    assert!(lines.about("INFO").iter().all(|line| !line.contains("source=")), "{:?}", lines.about(""));
    *from.shards.lock() = Ok(vec![Shard("local".into())]);
    pass_time(180).await;
    let told = lines.about("source=\"guests\"");
    let information: Vec<_> = told.iter().filter(|line| line.starts_with("INFO")).collect();
    assert_eq!(information.len(), 3, "{told:#?}");
    assert!(information[0].starts_with("INFO source collects source=\"guests\" shards=\"local\" waited="));
    assert!(
        information[1].starts_with("INFO source collects again") && information[1].contains("lasted=20s")
    );
    assert!(information[2].starts_with("INFO a part fails no more") && information[2].contains("lasted=30s"));
    assert!(information[2].contains("part="), "{told:#?}");
    assert!(!lines.about("").iter().any(|line| line.contains("left_out")), "{told:#?}");

    // The shards stay while nobody answers.
    *from.shards.lock() = Err("the daemon restarts".into());
    pass_time(65).await;
    *from.shards.lock() = Ok(vec![Shard("local".into())]);
    pass_time(65).await;
    assert_eq!(lines.about("INFO source waits no more").len(), 1, "{:#?}", lines.about(""));
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sinks_tell_when_they_open_and_write_again() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let folder = tempfile::tempdir().unwrap();
    let (from, to, late) = (TestSource::new(&[Act::Rows(1)]), Taken::new(Mood::Good), Taken::new(Mood::Good));
    let (closed, opens) = (Arc::new(AtomicBool::new(true)), opener(&late));
    let asked = Arc::clone(&closed);
    let open: super::super::deliver::OpenSink = Arc::new(move || {
        if asked.load(Ordering::SeqCst) {
            return Box::pin(async { Result::Err(Error::unavailable("open", "not yet")) });
        }
        opens()
    });
    let sinks = vec![sink("one", &to), SinkPlan { open, ..sink("late", &late) }];
    let plan = plan(folder.path(), vec![source("host", 10, &from)], sinks);
    let runner = Runner::start_with(plan, TestClock::at(0)).await.unwrap();
    pass_time(25).await;
    assert_eq!(lines.about("INFO sink"), Vec::<String>::new(), "nothing was warned");

    *to.mood.lock() = Mood::Down;
    pass_time(100).await;
    closed.store(false, Ordering::SeqCst);
    *to.mood.lock() = Mood::Good;
    pass_time(100).await;
    let told = lines.about("INFO sink");
    assert_eq!(told.len(), 2, "{:#?}", lines.about(""));
    assert!(
        told.iter().any(|line| line.starts_with("INFO sink writes again sink=\"one\" lasted=")
            && (line.contains("=1m") || line.contains("=2m"))),
        "{told:?}"
    );
    assert!(
        told.iter().any(|line| line.starts_with("INFO sink is open sink=\"late\" lasted=2m")),
        "{told:?}"
    );
    runner.stop().await;
}
