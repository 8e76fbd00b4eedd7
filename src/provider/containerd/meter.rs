//! The metrics messages of a namespace's containers, although some may be behind a shim that does not answer.
//!
//! One call brings all of them, and none when one shim hangs. Then every container is asked on its own, several at once.
//! One that does not answer in time is silent, and from then on nobody waits for it: it is asked beside the others, and
//! counts again when it has answered. So a hung shim costs the other containers one deadline, once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use containerd_client::services::v1::MetricsRequest;
use containerd_client::types::Metric;
use containerd_client::types::v1::Status as Native;
use futures::{FutureExt, StreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::Space;
use super::error::{Answered, late, within};
use super::state::Seen;
use super::tasks::read_one;
use crate::{Error, ErrorKind, Result};

/// Containers that are asked at once.
const AT_ONCE: usize = 32;
/// How long a call may stay waiting before it is made again.
const LONGEST: Duration = Duration::from_secs(60);

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Metered {
    /// Messages by container.
    pub(super) found: HashMap<String, Metric>,
    /// Containers whose shims did not answer.
    pub(super) silent: BTreeSet<String>,
    /// One for each of them, and for what else went wrong.
    pub(super) errors: Vec<Error>,
}

/// A call for one container's metrics.
type Call = JoinHandle<Result<Answer>>;

/// Asks for metrics; remembers which containers are silent.
#[derive(Debug, Default)]
pub(super) struct Meter {
    silent: BTreeMap<String, Call>,
}

impl Meter {
    /// The metrics of these containers, which all run; takes about as long as `deadline`, at the most.
    ///
    /// # Errors
    /// containerd itself does not answer.
    pub(super) async fn read(
        &mut self,
        space: &Space,
        running: &[String],
        deadline: Duration,
    ) -> Result<Metered> {
        self.listen(space, running);
        let mut metered = Metered::default();
        if running.is_empty() {
            return Ok(metered);
        }
        // Half of the time for the quick way, half for the sure one.
        let half = deadline / 2;
        if self.silent.is_empty() {
            let mut client = space.tasks().await?;
            let all = client.metrics(space.request(MetricsRequest { filters: Vec::new() }));
            match within(half, "read metrics of", space.name(), all).await {
                Ok(all) => {
                    // It answers for all tasks; what one that has ended left in its control group measures nothing.
                    let running: HashSet<&str> = running.iter().map(String::as_str).collect();
                    let found = all.metrics.into_iter().filter(|one| running.contains(one.id.as_str()));
                    metered.found = found.map(|one| (one.id.clone(), one)).collect();
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                Err(error) => return Err(error),
            }
        }
        let asked = running.iter().filter(|id| !metered.found.contains_key(*id));
        let asked: Vec<_> = asked.filter(|id| !self.silent.contains_key(*id)).cloned().collect();
        let calls = asked.into_iter().map(|id| async {
            let mut call = tokio::spawn(one(space.clone(), id.clone()));
            let answer = timeout(half, &mut call).await;
            (id, call, answer)
        });
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
        while let Some((id, call, answer)) = answers.next().await {
            match answer {
                Ok(Ok(Ok(Answer::Metric(metric)))) => drop(metered.found.insert(id, *metric)),
                Ok(Ok(Ok(Answer::Ended))) => {}
                Ok(Ok(Err(error))) if error.kind() != ErrorKind::Unavailable => metered.errors.push(error),
                Ok(_) => {
                    let again = tokio::spawn(one(space.clone(), id.clone()));
                    self.silent.insert(id, again);
                }
                Err(_) => drop(self.silent.insert(id, call)),
            }
        }
        metered.errors.extend(self.silent.keys().map(|id| late(half, "read the metrics of", id)));
        metered.silent = self.silent.keys().cloned().collect();
        Ok(metered)
    }

    /// Whether some container does not answer.
    pub(super) fn hears_silence(&self) -> bool {
        !self.silent.is_empty()
    }

    /// Hears whether silent containers have answered at last; those that are gone are forgotten.
    fn listen(&mut self, space: &Space, running: &[String]) {
        for (id, mut call) in std::mem::take(&mut self.silent) {
            if !running.contains(&id) {
                call.abort();
                continue;
            }
            match (&mut call).now_or_never() {
                None => drop(self.silent.insert(id, call)),
                // What it says is old by now; it is asked again with the others.
                Some(Ok(Ok(Answer::Metric(_) | Answer::Ended))) => {}
                Some(_) => {
                    let again = tokio::spawn(one(space.clone(), id.clone()));
                    self.silent.insert(id, again);
                }
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.silent.values().for_each(JoinHandle::abort);
    }
}

/// What a container that is asked alone says.
#[derive(Debug)]
enum Answer {
    Metric(Box<Metric>),
    /// It runs no more.
    Ended,
    /// Its shim does not answer.
    Silent,
}

async fn one(space: Space, id: String) -> Result<Answer> {
    let mut client = space.tasks().await?;
    let request = space.request(MetricsRequest { filters: vec![format!("id=={}", quoted(&id))] });
    let Ok(answer) = timeout(LONGEST, client.metrics(request)).await else { return Ok(Answer::Silent) };
    let answer = answer.answered("read the metrics of", &id)?;
    if let Some(metric) = answer.metrics.into_iter().find(|metric| metric.id == id) {
        return Ok(Answer::Metric(Box::new(metric)));
    }
    // containerd answers without a metric both when it gave up on the shim and when there is nothing to measure.
    match read_one(&space, &id, LONGEST).await {
        Ok(Seen::Task(task)) if matches!(task.status(), Native::Running | Native::Unknown) => {
            Ok(Answer::Silent)
        }
        Ok(Seen::Silent) => Ok(Answer::Silent),
        Ok(_) => Ok(Answer::Ended),
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Answer::Silent),
        Err(error) => Err(error),
    }
}

/// A value in containerd's filters.
fn quoted(id: &str) -> String {
    format!("\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\""))
}
