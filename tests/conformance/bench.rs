//! The layers around the provider under test, with a journal, and short words for what the checks do all the time.

use std::sync::Arc;
use std::time::Duration;

use barograph::manage::{
    Approved, Executor, Guard, Journal, Managed, Operation, Prepared, Waiting, prepare, rest,
};
use barograph::model::Span;
use barograph::model::resource::{Instance, ResourceId, State};
use barograph::provider::client::{Listed, Policy};
use barograph::provider::{Action, Capabilities, Client, Consents, InstanceSpec, Listing, Provider, Stop};
use barograph::{ErrorKind, Result};

use super::Subject;

pub(crate) struct Bench<'a> {
    pub(crate) subject: &'a dyn Subject,
    pub(crate) managed: Managed,
    pub(crate) journal: Journal,
    pub(crate) location: String,
    _data: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(subject: &'a dyn Subject) -> Self {
        Self::around(subject, subject.provider())
    }

    /// The same around another provider.
    pub(crate) fn around(subject: &'a dyn Subject, provider: Arc<dyn Provider>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let client = Client::new(provider, Arc::default(), Policy::default());
        let managed = Managed { name: subject.name().into(), config: None, client };
        let journal = Journal::open(data.path()).unwrap();
        Self { subject, managed, journal, location: subject.location(), _data: data }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.managed.client
    }

    pub(crate) fn can(&self) -> Capabilities {
        self.client().capabilities()
    }

    /// Whether the rig can do what the provider claims.
    pub(crate) fn suspends(&self) -> bool {
        self.can().suspend && !self.subject.lacks().contains(&"suspend")
    }

    pub(crate) async fn list<T: Listed>(&self) -> Listing<T> {
        self.client().list(&self.location, &|_| ()).await
    }

    pub(crate) async fn prepare(&self, wanted: &Action) -> Result<Prepared> {
        let now = match wanted.instance() {
            Some(instance) => Some(self.client().instance(instance.id().unwrap()).await?),
            None => None,
        };
        prepare(&self.managed, wanted, now.as_ref(), None).await
    }

    pub(crate) async fn approve(&self, wanted: &Action) -> Result<Approved> {
        let prepared = self.prepare(wanted).await?;
        Ok(Guard::default().approve(vec![prepared], async |_| Ok(true)).await?.remove(0))
    }

    /// Plans and carries out.
    pub(crate) async fn run(&self, wanted: &Action) -> (Operation, Result<()>) {
        let approved = match self.approve(wanted).await {
            Ok(approved) => approved,
            Err(error) => {
                let plan = barograph::provider::Plan::new(wanted.clone(), None, "refused");
                return (Operation::new("none", None, plan), Err(error));
            }
        };
        self.execute(approved).await
    }

    pub(crate) async fn execute(&self, approved: Approved) -> (Operation, Result<()>) {
        Executor::new(self.client(), &self.journal, waiting(), &|_, _| ()).run(approved, &|_| ()).await
    }

    pub(crate) async fn resume(&self, operation: Operation) -> (Operation, Result<()>) {
        let rest = rest(&self.managed, operation.clone()).await;
        let approved = match rest {
            Ok(rest) => Guard::default().approve_rest(rest, async |_| Ok(true)).await,
            Err(error) => Err(error),
        };
        match approved {
            Ok(approved) => {
                Executor::new(self.client(), &self.journal, waiting(), &|_, _| ()).resume(approved).await
            }
            Err(error) => (operation, Err(error)),
        }
    }

    /// As [`Self::run`], where it has to succeed.
    #[track_caller]
    pub(crate) fn done<'b>(&'b self, wanted: &'b Action) -> impl Future<Output = Operation> + 'b {
        let caller = std::panic::Location::caller();
        async move {
            let (operation, ended) = self.run(wanted).await;
            if let Err(error) = ended {
                panic!("{caller}: {wanted}: {}; {:?}", error.chain(), operation.errors);
            }
            operation
        }
    }

    /// As [`Self::run`], where it has to fail: the kind and the message.
    #[track_caller]
    pub(crate) fn refused<'b>(
        &'b self,
        wanted: &'b Action,
    ) -> impl Future<Output = (ErrorKind, String)> + 'b {
        let caller = std::panic::Location::caller();
        async move {
            let (_, ended) = self.run(wanted).await;
            let error = ended.err().unwrap_or_else(|| panic!("{caller}: {wanted} succeeded"));
            (error.kind(), error.chain())
        }
    }

    /// Makes an instance and gives back its id.
    pub(crate) async fn create(&self, spec: InstanceSpec) -> ResourceId {
        self.done(&Action::CreateInstance { spec }).await.resource().expect("what was made has an id")
    }

    pub(crate) async fn instance(&self, id: &ResourceId) -> Instance {
        self.client().instance(id).await.unwrap()
    }

    pub(crate) async fn state(&self, id: &ResourceId) -> State {
        self.instance(id).await.state()
    }

    /// Deletes an instance, whatever it does.
    pub(crate) async fn remove(&self, id: &ResourceId) {
        let consents =
            Consents { running: true, volumes: true, snapshots: true, saved_state: true, nvram: true };
        self.done(&Action::DeleteInstance { instance: id.clone().into(), consents }).await;
    }

    pub(crate) async fn close(&self) {
        self.client().close().await;
    }
}

/// A spec that starts at once.
pub(crate) fn started(spec: InstanceSpec) -> InstanceSpec {
    InstanceSpec { start: true, ..spec }
}

/// A stop that does not wait for the instance.
pub(crate) fn forced() -> Stop {
    Stop { grace: Span(Duration::ZERO), force: true, ..Stop::default() }
}

/// A stop that waits for as long as an emulated guest may take to boot first.
pub(crate) fn graceful() -> Stop {
    Stop { grace: Span(Duration::from_secs(90)), force: false, ..Stop::default() }
}

pub(crate) fn waiting() -> Waiting {
    Waiting { last: true, timeout: Duration::from_secs(120) }
}
