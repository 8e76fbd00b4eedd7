//! The tasks of containers: a container runs as long as its task does.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::services::v1::snapshots::MountsRequest;
use containerd_client::services::v1::{
    Container, CreateTaskRequest, DeleteTaskRequest, KillRequest, PauseTaskRequest, ResumeTaskRequest,
    StartRequest, UpdateContainerRequest, WaitRequest,
};
use containerd_client::types::v1::{Process, Status as Native};
use prost_types::FieldMask;
use tokio::time::Instant;

use super::connect::Space;
use super::container::{cgroups_path, spec_of, timestamp};
use super::error::{Answered, failed, within};
use super::state::{Seen, label};
use super::tasks::read_one;
use super::{process, signal};
use crate::model::resource::State;
use crate::provider::{Done, Stop};
use crate::{Error, ErrorKind, Result, Retry};

/// How long a shim may take for what it does at once when it is healthy. Longer than telemetry waits: a change that is
/// given up halfway is worse than a slow one.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a new shim and the runtime may take until the first process runs, on a busy machine.
const STARTS: Duration = Duration::from_secs(25);

/// A container whose task is to change.
pub(super) struct Running<'a> {
    pub(super) space: &'a Space,
    pub(super) container: &'a Container,
}

impl Running<'_> {
    fn id(&self) -> &str {
        &self.container.id
    }

    /// The task as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if its shim does not answer: nothing can be done with it then.
    pub(super) async fn seen(&self) -> Result<Seen> {
        let seen = read_one(self.space, self.id(), PATIENCE).await?;
        match seen.task().map(Process::status) {
            Some(Native::Unknown) => Err(super::error::late(PATIENCE, "read the task of", self.id())),
            _ => Ok(seen),
        }
    }

    /// Makes a task and starts it, or lets a paused one go on.
    ///
    /// # Errors
    /// The runtime cannot start it; no task is left then.
    pub(super) async fn start(&self) -> Result<Done> {
        match self.seen().await? {
            Seen::Task(task) => match task.status() {
                Native::Running => return Ok(Done::already()),
                Native::Paused | Native::Pausing => return self.resume().await,
                Native::Stopped => self.bury().await.map(drop)?,
                // Made, but never started: by a call that was cut off.
                _ => return self.begin().await,
            },
            Seen::Absent | Seen::Silent => {}
        }
        let container = self.container;
        let request =
            MountsRequest { snapshotter: container.snapshotter.clone(), key: container.snapshot_key.clone() };
        let mounts = self.space.snapshots().await?.mounts(self.space.request(request)).await;
        let rootfs = mounts.answered("find the root file system of", self.id())?.mounts;
        let request = CreateTaskRequest { container_id: container.id.clone(), rootfs, ..Default::default() };
        let mut tasks = self.space.tasks().await?;
        let created = tasks.create(self.space.request(request));
        if let Err(error) = within(STARTS, "make a task for", self.id(), created).await {
            // What an earlier call has begun and was cut off from can hold this one up; without it the next try is free.
            if error.kind() == ErrorKind::Unavailable {
                self.delete_task().await.map_or_else(|left| tracing::debug!("{}", left.chain()), drop);
            }
            return Err(error);
        }
        self.begin().await
    }

    async fn begin(&self) -> Result<Done> {
        let request = StartRequest { container_id: self.id().to_owned(), exec_id: String::new() };
        let mut tasks = self.space.tasks().await?;
        let started = tasks.start(self.space.request(request));
        if let Err(error) = within(STARTS, "start", self.id(), started).await {
            self.delete_task().await.map_or_else(|left| tracing::warn!("{}", left.chain()), drop);
            return Err(error);
        }
        // What it ended with before does not count any more.
        self.write_labels(
            [label::EXIT, label::EXITED_AT, label::OUT_OF_MEMORY].map(|key| (key, String::new())),
        )
        .await
        .unwrap_or_else(|error| tracing::warn!("{}", error.chain()));
        Ok(Done::changed())
    }

    /// Asks it to stop and waits, and kills it only if `how` says so.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it did not stop in time and was not to be killed; it runs on then.
    pub(super) async fn stop(&self, how: &Stop) -> Result<Done> {
        let named = how
            .signal
            .as_deref()
            .or_else(|| self.container.labels.get(super::create::STOP_SIGNAL).map(String::as_str));
        let number = signal::number(named.unwrap_or("SIGTERM"))?;
        let paused = match self.seen().await? {
            Seen::Absent | Seen::Silent => return Ok(Done::already()),
            Seen::Task(task) if task.status() == Native::Stopped => return Ok(Done::already()),
            Seen::Task(task) => matches!(task.status(), Native::Paused | Native::Pausing),
        };
        self.kill(number, false).await?;
        if paused {
            self.thaw().await?;
        }
        if !self.ended_within(how.grace.0).await? {
            if !how.force {
                let reason = format!(
                    "it did not stop within {} of signal {number}; it is still there. Stop it with force to kill it",
                    how.grace
                );
                // Asking again waits as long again, and that is for a person to decide.
                let error = failed(ErrorKind::Unavailable, "stop", self.id(), reason);
                if paused && let Err(left) = self.pause().await {
                    tracing::debug!("it stood still before it was asked to stop: {}", left.chain());
                }
                return Err(error.with_retry(Retry::Never));
            }
            self.kill_now().await?;
        }
        let reason = self.bury().await?;
        Ok(Done::changed().note(reason))
    }

    /// Kills all of its processes.
    ///
    /// # Errors
    /// It is still there after a while.
    pub(super) async fn kill_now(&self) -> Result<()> {
        self.kill(signal::KILL, true).await?;
        self.thaw().await?;
        if self.ended_within(PATIENCE).await? {
            return Ok(());
        }
        let reason = "it was killed and is still there; is one of its processes waiting for a disk?";
        Err(failed(ErrorKind::Unavailable, "kill", self.id(), reason))
    }

    /// Stands it still.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it does not run.
    pub(super) async fn pause(&self) -> Result<Done> {
        match self.seen().await?.task().map(Process::status) {
            Some(Native::Paused) => return Ok(Done::already()),
            Some(Native::Running) => {}
            _ => return Err(self.not("it does not run; start it first")),
        }
        let mut client = self.space.tasks().await?;
        let request = self.space.request(PauseTaskRequest { container_id: self.id().to_owned() });
        within(PATIENCE, "suspend", self.id(), client.pause(request)).await?;
        Ok(Done::changed())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it is not paused.
    pub(super) async fn resume(&self) -> Result<Done> {
        match self.seen().await?.task().map(Process::status) {
            Some(Native::Running) => return Ok(Done::already()),
            Some(Native::Paused | Native::Pausing) => {}
            _ => return Err(self.not("it is not suspended; start it instead")),
        }
        let mut client = self.space.tasks().await?;
        let request = self.space.request(ResumeTaskRequest { container_id: self.id().to_owned() });
        within(PATIENCE, "resume", self.id(), client.resume(request)).await?;
        Ok(Done::changed())
    }

    /// Lets it hear its signal, if it stands still. The signal itself may have been the end of standing still, and of
    /// the task: whether it ended shows later.
    async fn thaw(&self) -> Result<()> {
        if self.seen().await?.state() != State::Suspended {
            return Ok(());
        }
        match self.resume().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes the task that has ended, and keeps on the container what it ended with; gives that back for people.
    ///
    /// # Errors
    /// The task cannot be deleted.
    pub(super) async fn bury(&self) -> Result<String> {
        // The control group, and with it this, goes with the task.
        let memory = process::was_out_of_memory(cgroups_path(&spec_of(self.container)));
        let Some((code, at)) = self.delete_task().await? else { return Ok("it has no task".into()) };
        let at = at.as_ref().and_then(timestamp).map(|at| at.to_string()).unwrap_or_default();
        let memory_label = if memory { "true".to_owned() } else { String::new() };
        let labels =
            [(label::EXIT, code.to_string()), (label::EXITED_AT, at), (label::OUT_OF_MEMORY, memory_label)];
        self.write_labels(labels).await.unwrap_or_else(|error| {
            tracing::warn!("what {} ended with is not kept: {}", self.id(), error.chain());
        });
        Ok(super::state::exit_reason(code, memory))
    }

    async fn delete_task(&self) -> Result<Option<(u32, Option<prost_types::Timestamp>)>> {
        let mut client = self.space.tasks().await?;
        let request = self.space.request(DeleteTaskRequest { container_id: self.id().to_owned() });
        match within(PATIENCE, "delete the task of", self.id(), client.delete(request)).await {
            Ok(ended) => Ok(Some((ended.exit_status, ended.exited_at))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        let mut client = self.space.tasks().await?;
        let request = KillRequest { container_id: self.id().to_owned(), exec_id: String::new(), signal, all };
        match within(PATIENCE, "send a signal to", self.id(), client.kill(self.space.request(request))).await
        {
            // It ended before.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Whether the task ends within this time.
    async fn ended_within(&self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        let mut client = self.space.tasks().await?;
        let request = WaitRequest { container_id: self.id().to_owned(), exec_id: String::new() };
        let waited = tokio::time::timeout_at(until, client.wait(self.space.request(request))).await;
        match waited {
            Ok(Ok(_)) => Ok(true),
            // Its time is over, or the waiting was cut off: the task itself says.
            Ok(Err(_)) | Err(_) => loop {
                let ended = match self.seen().await? {
                    Seen::Absent | Seen::Silent => true,
                    Seen::Task(task) => task.status() == Native::Stopped,
                };
                if ended || Instant::now() >= until {
                    return Ok(ended);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            },
        }
    }

    /// Sets labels of the container; an empty value takes one away.
    async fn write_labels<const N: usize>(&self, labels: [(&str, String); N]) -> Result<()> {
        let paths = labels.iter().map(|(key, _)| format!("labels.{key}")).collect();
        let labels: HashMap<_, _> = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let container = Container { id: self.id().to_owned(), labels, ..Container::default() };
        let request =
            UpdateContainerRequest { container: Some(container), update_mask: Some(FieldMask { paths }) };
        let updated = self.space.containers().await?.update(self.space.request(request)).await;
        updated.answered("label", self.id()).map(drop)
    }

    fn not(&self, reason: &str) -> Error {
        failed(ErrorKind::Conflict, "change", self.id(), reason)
    }
}
