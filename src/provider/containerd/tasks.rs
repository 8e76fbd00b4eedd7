//! The tasks of a namespace, although some of them may be behind a shim that does not answer.
//!
//! One call lists them all, and waits for each shim in turn. When it takes too long every container is asked on its own,
//! several at once, so that a hung shim costs only its own container's state.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::services::v1::{GetRequest, ListTasksRequest};
use containerd_client::types::v1::{Process, Status as Native};
use futures::StreamExt;
use futures::stream;

use super::connect::Space;
use super::error::{late, within};
use super::state::Seen;
use crate::{Error, ErrorKind, Result};

/// Containers that are asked at once.
const AT_ONCE: usize = 32;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    found: HashMap<String, Seen>,
    /// One for each container that did not answer.
    pub(super) errors: Vec<Error>,
}

impl Tasks {
    /// The task of a container.
    pub(super) fn of(&self, id: &str) -> &Seen {
        self.found.get(id).unwrap_or(&Seen::Absent)
    }

    /// Reads the tasks of these containers; takes about as long as `deadline`, at the most.
    ///
    /// # Errors
    /// containerd itself does not answer.
    pub(super) async fn read(space: &Space, ids: &[String], deadline: Duration) -> Result<Self> {
        // Half of the time for the quick way, half for the sure one.
        let half = deadline / 2;
        let mut client = space.tasks().await?;
        let list = client.list(space.request(ListTasksRequest::default()));
        let mut tasks = Self::default();
        match within(half, "list tasks of", space.name(), list).await {
            Ok(list) => list.tasks.into_iter().for_each(|task| tasks.add(task, half)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let asked = ids.iter().cloned().map(|id| async move {
                    let answer = read_one(space, &id, half).await;
                    (id, answer)
                });
                let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
                while let Some((id, answer)) = answers.next().await {
                    match answer {
                        Ok(Seen::Task(task)) => tasks.add(*task, half),
                        Ok(seen) => drop(tasks.found.insert(id, seen)),
                        Err(error) => {
                            tasks.errors.push(error);
                            tasks.found.insert(id, Seen::Silent);
                        }
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(tasks)
    }

    fn add(&mut self, task: Process, deadline: Duration) {
        // containerd gives up on a shim after a while, and then says this.
        if task.status() == Native::Unknown {
            self.errors.push(late(deadline, "read the task of", named(&task)));
        }
        self.found.insert(named(&task).to_owned(), Seen::Task(Box::new(task)));
    }
}

/// The task of one container.
///
/// # Errors
/// The shim did not answer within the deadline, or containerd did not at all.
pub(super) async fn read_one(space: &Space, id: &str, deadline: Duration) -> Result<Seen> {
    let mut client = space.tasks().await?;
    let request = space.request(GetRequest { container_id: id.to_owned(), exec_id: String::new() });
    match within(deadline, "read the task of", id, client.get(request)).await {
        Ok(answer) => Ok(answer.process.map_or(Seen::Absent, |task| Seen::Task(Box::new(task)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Seen::Absent),
        Err(error) => Err(error),
    }
}

/// Lists fill in one of the two fields, answers about one task the other.
fn named(task: &Process) -> &str {
    if task.id.is_empty() { &task.container_id } else { &task.id }
}
