//! What containerd says of its containers while it happens, heard by a task of its own.
//!
//! The call that subscribes does not return before the first event: whoever waited for it would wait as long as nothing
//! happens. Until then nobody knows whether it was heard, and so the list of containers is read each time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::events::{
    ContainerCreate, ContainerDelete, ContainerUpdate, TaskCheckpointed, TaskExit, TaskOom, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::types::Envelope;
use parking_lot::Mutex;
use prost::Message;
use tokio::task::JoinHandle;

use super::connect::Connection;
use super::container::timestamp;
use super::state::exit_reason;
use crate::model::Timestamp;
use crate::model::resource::State;

/// Events kept between two collections.
const CAPACITY: usize = 4096;
/// Shortest and longest wait before subscribing again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The namespace.
    pub(super) namespace: String,
    /// The container.
    pub(super) id: String,
    /// The tag `event`.
    pub(super) event: &'static str,
    /// The state afterwards, where the event says.
    pub(super) state: Option<State>,
    /// Why.
    pub(super) reason: Option<String>,
    /// What its first process ended with.
    pub(super) exit_code: Option<i64>,
    /// When, in nanoseconds since 1970 UTC; no two events have the same.
    pub(super) time: i64,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    lost: u64,
    /// Namespaces whose lists are out of date.
    news: HashSet<String>,
    /// Whether events are being heard.
    hears: bool,
    last: i64,
}

/// What was heard and not yet taken.
#[derive(Debug, Default)]
struct Mailbox(Mutex<Inner>);

/// Hears events as long as it is there.
#[derive(Debug)]
pub(super) struct Listener {
    mailbox: Arc<Mailbox>,
    task: JoinHandle<()>,
}

/// What was heard since the last time.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The events in their order.
    pub(super) events: Vec<Event>,
    /// How many more there were.
    pub(super) lost: u64,
    /// Namespaces whose lists are out of date; all of them if nobody knows.
    pub(super) news: Option<HashSet<String>>,
}

impl Listener {
    /// Begins to listen.
    pub(super) fn start(connection: Arc<Connection>) -> Self {
        let mailbox = Arc::<Mailbox>::default();
        let task = tokio::spawn(listen(connection, Arc::clone(&mailbox)));
        Self { mailbox, task }
    }

    /// What was heard since the last call.
    pub(super) fn take(&self) -> Heard {
        let mut inner = self.mailbox.0.lock();
        let lost = std::mem::take(&mut inner.lost);
        let news = std::mem::take(&mut inner.news);
        let news = (inner.hears && lost == 0).then_some(news);
        Heard { events: inner.events.drain(..).collect(), lost, news }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(connection: Arc<Connection>, mailbox: Arc<Mailbox>) {
    let mut pause = BACKOFF.0;
    loop {
        if hear(&connection, &mailbox).await {
            pause = BACKOFF.0;
        }
        mailbox.0.lock().hears = false;
        // Many collectors must not come back in step after a restart.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Hears events until there are no more; whether there was one.
async fn hear(connection: &Connection, mailbox: &Mailbox) -> bool {
    let subscribed = async {
        let mut client = connection.events().await?;
        Ok::<_, crate::Error>(client.subscribe(SubscribeRequest { filters: Vec::new() }).await)
    };
    let mut stream = match subscribed.await {
        Ok(Ok(stream)) => stream.into_inner(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "subscribing to containerd's events");
            return false;
        }
        Err(error) => {
            tracing::debug!(%error, "subscribing to containerd's events");
            return false;
        }
    };
    let mut heard = false;
    loop {
        match stream.message().await {
            Ok(Some(envelope)) => {
                heard = true;
                mailbox.put(&envelope);
            }
            Ok(None) => return heard,
            Err(error) => {
                tracing::debug!(%error, "hearing containerd's events");
                return heard;
            }
        }
    }
}

impl Mailbox {
    fn put(&self, envelope: &Envelope) {
        let mut inner = self.0.lock();
        inner.hears = true;
        // A task that goes changes the list too, though it is no event of its own.
        if envelope.topic.starts_with("/tasks/") || envelope.topic.starts_with("/containers/") {
            inner.news.insert(envelope.namespace.clone());
        }
        let Some(mut event) = told(envelope) else { return };
        if inner.events.len() >= CAPACITY {
            inner.lost += 1;
            return;
        }
        // Two events of a container at the same time would be one row.
        if inner.events.iter().rev().take(64).any(|other| other.time == event.time) {
            event.time = inner.last.max(event.time) + 1;
        }
        inner.last = inner.last.max(event.time);
        inner.events.push_back(event);
    }
}

/// An event in the words of the table `events`; `None` if it is not about a container's life.
fn told(envelope: &Envelope) -> Option<Event> {
    let any = envelope.event.as_ref()?;
    let time = envelope.timestamp.as_ref().and_then(timestamp).unwrap_or_else(Timestamp::now).0;
    let make = |id: String, event, state, reason| Event {
        namespace: envelope.namespace.clone(),
        id,
        event,
        state,
        reason,
        exit_code: None,
        time,
    };
    let bytes = any.value.as_slice();
    match any.type_url.rsplit('/').next()? {
        "containerd.events.ContainerCreate" => {
            let event = ContainerCreate::decode(bytes).ok()?;
            let image = Some(event.image).filter(|image| !image.is_empty());
            Some(make(event.id, "created", Some(State::Stopped), image.map(|image| format!("of {image}"))))
        }
        "containerd.events.ContainerUpdate" => {
            Some(make(ContainerUpdate::decode(bytes).ok()?.id, "updated", None, None))
        }
        "containerd.events.ContainerDelete" => {
            Some(make(ContainerDelete::decode(bytes).ok()?.id, "deleted", Some(State::Deleted), None))
        }
        "containerd.events.TaskStart" => {
            let id = TaskStart::decode(bytes).ok()?.container_id;
            Some(make(id, "started", Some(State::Running), None))
        }
        "containerd.events.TaskExit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            // Other processes in a container end too.
            if exit.id != exit.container_id && !exit.id.is_empty() {
                return None;
            }
            let reason = exit_reason(exit.exit_status, false);
            let event = make(exit.container_id, "stopped", Some(State::Stopped), Some(reason));
            let time = exit.exited_at.as_ref().and_then(timestamp).map_or(event.time, |at| at.0);
            Some(Event { time, exit_code: Some(exit.exit_status.into()), ..event })
        }
        "containerd.events.TaskOOM" => {
            let reason = Some("out of memory".to_owned());
            Some(make(TaskOom::decode(bytes).ok()?.container_id, "oom_killed", None, reason))
        }
        "containerd.events.TaskPaused" => {
            let id = TaskPaused::decode(bytes).ok()?.container_id;
            Some(make(id, "suspended", Some(State::Suspended), None))
        }
        "containerd.events.TaskResumed" => {
            let id = TaskResumed::decode(bytes).ok()?.container_id;
            Some(make(id, "resumed", Some(State::Running), None))
        }
        "containerd.events.TaskCheckpointed" => {
            Some(make(TaskCheckpointed::decode(bytes).ok()?.container_id, "checkpointed", None, None))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    fn envelope(topic: &str, kind: &str, message: &impl Message) -> Envelope {
        Envelope {
            timestamp: Some(prost_types::Timestamp { seconds: 7, nanos: 1 }),
            namespace: "a".into(),
            topic: topic.into(),
            event: Some(Any {
                type_url: format!("containerd.events.{kind}"),
                value: message.encode_to_vec(),
            }),
        }
    }

    fn exit(id: &str, code: u32) -> Envelope {
        let at = prost_types::Timestamp { seconds: 6, nanos: 5 };
        let exit = TaskExit {
            container_id: "web".into(),
            id: id.into(),
            pid: 1,
            exit_status: code,
            exited_at: Some(at),
        };
        envelope("/tasks/exit", "TaskExit", &exit)
    }

    #[test]
    fn an_exit_has_its_code_and_its_time_and_other_processes_have_none() {
        let event = told(&exit("web", 137)).unwrap();
        assert_eq!((event.event, event.exit_code, event.time), ("stopped", Some(137), 6_000_000_005));
        assert_eq!(event.reason.as_deref(), Some("exit 137 (killed by signal 9)"));
        assert_eq!(told(&exit("exec-1", 0)), None);
        let oom = told(&envelope("/tasks/oom", "TaskOOM", &TaskOom { container_id: "web".into() })).unwrap();
        assert_eq!((oom.event, oom.id.as_str(), oom.time), ("oom_killed", "web", 7_000_000_001));
        let strange = envelope("/images/create", "ImageCreate", &TaskOom::default());
        assert_eq!(told(&strange), None);
    }

    #[test]
    fn events_come_once_and_say_which_lists_are_old() {
        let listener = Listener {
            mailbox: Arc::default(),
            task: tokio::runtime::Builder::new_current_thread().build().unwrap().spawn(async {}),
        };
        assert!(listener.take().news.is_none(), "nobody knows before the first event");
        for _ in 0..2 {
            listener.mailbox.put(&exit("web", 1));
        }
        listener.mailbox.put(&exit("exec-1", 1));
        let heard = listener.take();
        assert_eq!(heard.news, Some(HashSet::from(["a".to_owned()])));
        assert_eq!(heard.events.len(), 2);
        assert!(heard.events[0].time < heard.events[1].time);
        assert_eq!(listener.take().news, Some(HashSet::new()));
        for _ in 0..CAPACITY + 5 {
            listener.mailbox.put(&exit("web", 1));
        }
        let heard = listener.take();
        assert_eq!((heard.events.len(), heard.lost, heard.news), (CAPACITY, 5, None));
    }
}
