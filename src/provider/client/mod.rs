//! The layers around a provider: a rate budget, a deadline and retries for every call that is made to it.
//!
//! From the outside in: retry, then budget, then deadline, so that each try waits for its turn and has the whole time to
//! itself. A provider has none of this inside, and everybody else reaches a provider only through here.

mod budget;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

pub use budget::{Budgets, Class, Rate};
pub use retry::Retries;

use super::{
    Action, Capabilities, Done, Inventory, Listing, Pages, Past, Plan, Provider, Scope, Token, perform,
};
use crate::model::Timestamp;
use crate::model::resource::{
    Image, Instance, Kind, Network, Price, Region, ResourceId, Size, Snapshot, Subnet, Volume, Zone,
};
use crate::{Error, ErrorKind, Result};

/// How calls are made.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Longest time of one call that reads.
    pub read: Duration,
    /// Longest time of one call that changes something, beside the time that an action itself asks for.
    pub change: Duration,
    /// Longest time of one call that copies what a disk or an image holds.
    pub copy: Duration,
    /// Longest time of a whole list of one place.
    pub list: Duration,
    /// How failures are tried again.
    pub retries: Retries,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(30),
            change: Duration::from_secs(120),
            copy: Duration::from_secs(6 * 3600),
            list: Duration::from_secs(300),
            retries: Retries::default(),
        }
    }
}

/// A provider with its layers; cloning shares it.
#[derive(Clone)]
pub struct Client {
    provider: Arc<dyn Provider>,
    budgets: Arc<Budgets>,
    policy: Policy,
}

/// A kind of resource that can be listed place by place.
pub trait Listed: Sized + Send {
    /// Which.
    const KIND: Kind;

    /// Its pages.
    fn pages<'a>(inventory: &'a dyn Inventory, location: &'a str) -> Pages<'a, Self>;

    /// Its id; sizes and prices have none.
    fn resource_id(&self) -> Option<&ResourceId>;
}

macro_rules! listed {
    ($($type:ident: $method:ident $(has $id:ident)?),*) => {$(
        impl Listed for $type {
            const KIND: Kind = Kind::$type;

            fn pages<'a>(inventory: &'a dyn Inventory, location: &'a str) -> Pages<'a, Self> {
                inventory.$method(location)
            }

            fn resource_id(&self) -> Option<&ResourceId> {
                None$(.or(Some(&self.$id)))?
            }
        }
    )*};
}

listed!(Instance: instances has id, Zone: zones has id, Image: images has id, Volume: volumes has id);
listed!(Snapshot: snapshots has id, Network: networks has id, Subnet: subnets has id);
listed!(Size: sizes, Price: prices);

impl Client {
    /// Layers around `provider`. Clients that share `budgets` share the rates of each (provider, account, place).
    pub fn new(provider: Arc<dyn Provider>, budgets: Arc<Budgets>, policy: Policy) -> Self {
        Self { provider, budgets, policy }
    }

    /// The same, where a change may take at least this long.
    #[must_use]
    pub fn patient(&self, change: Duration) -> Self {
        let mut client = self.clone();
        client.policy.change = client.policy.change.max(change);
        client
    }

    /// Whose resources these are.
    pub fn scope(&self) -> &Scope {
        self.provider.scope()
    }

    /// What the provider can do.
    pub fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// The places.
    pub async fn regions(&self) -> Listing<Region> {
        self.read_pages("", self.provider.inventory().regions(), &|_| ()).await
    }

    /// What a place has of one kind. `progress` hears how many there are so far.
    pub async fn list<T: Listed>(&self, location: &str, progress: &(dyn Fn(usize) + Sync)) -> Listing<T> {
        if !self.capabilities().lists(T::KIND) {
            let mut none = Listing::default();
            none.fail([self.named(crate::provider::absent_error(T::KIND))]);
            return none;
        }
        self.read_pages(location, T::pages(self.provider.inventory(), location), progress).await
    }

    /// One instance.
    ///
    /// # Errors
    /// Those of [`Inventory::instance`], when trying again did not help.
    pub async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        let read = || self.provider.inventory().instance(id);
        self.call("read", &id.location, Class::Read, self.policy.read, read).await
    }

    /// The steps of a change.
    ///
    /// # Errors
    /// Those of [`Provider::plan`], and what the provider cannot do at all.
    pub async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        perform::allowed(self.provider.as_ref(), wanted)?;
        let location = wanted.location().unwrap_or_default();
        // What is to be copied may be read for the plan.
        let deadline = if wanted.copies_data() { self.policy.copy } else { self.policy.read };
        let plan = || self.provider.plan(wanted, now);
        self.call("plan", location, Class::Read, deadline, plan).await
    }

    /// Carries out a step. Every step carries its token or finds out that it was done already, so it is tried again like a
    /// read; but what an earlier try may have done is a change, though a later one finds that it is so already.
    ///
    /// # Errors
    /// Those of the step, when trying again did not help. One that follows a try whose end is not known is
    /// [`Error::is_partly_done`].
    pub async fn perform(&self, action: &Action, token: Token) -> Result<Done> {
        let location = action.location().unwrap_or_default();
        let deadline = self.longest(action);
        let perform = || perform::perform(self.provider.as_ref(), action, token);
        match self.tried(action.verb(), location, Class::Change, deadline, perform).await {
            (Ok(done), true) => Ok(Done { changed: true, ..done }),
            (Err(error), true) => Err(error.partly_done()),
            (done, false) => done,
        }
    }

    /// The longest time of a step's call.
    pub(crate) fn longest(&self, action: &Action) -> Duration {
        match action {
            Action::Stop { how, .. } => self.policy.change + how.grace.0,
            action if action.copies_data() => self.policy.change.max(self.policy.copy),
            _ => self.policy.change,
        }
    }

    /// What an instance of a size costs; `None` when no price is known.
    ///
    /// # Errors
    /// The prices cannot be read.
    pub async fn cost(&self, size: &Size, location: &str) -> Result<Option<crate::model::resource::Cost>> {
        let Some(pricing) = self.provider.pricing() else { return Ok(None) };
        self.call("price", location, Class::Read, self.policy.read, || pricing.cost(size, location)).await
    }

    /// Tells the provider what an interrupted operation remembers.
    pub fn remember(&self, past: Past<'_>, at: Timestamp) {
        self.provider.remember(past, at);
    }

    /// Lets connections and threads go.
    pub async fn close(&self) {
        self.provider.close().await;
    }

    async fn read_pages<T>(
        &self,
        location: &str,
        mut pages: Pages<'_, T>,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Listing<T> {
        let mut listing = Listing::default();
        let until = tokio::time::Instant::now() + self.policy.list;
        let mut tries = self.policy.retries.tries();
        loop {
            self.turn(location, Class::Read).await;
            let page = match tokio::time::timeout_at(until, pages.next()).await {
                Ok(None) => return listing,
                Ok(Some(page)) => page,
                Err(_) => {
                    listing.fail([self.late("list", location, self.policy.list)]);
                    return listing;
                }
            };
            match page {
                Ok(page) => {
                    listing.add(page);
                    progress(listing.items.len());
                    tries = self.policy.retries.tries();
                }
                Err(error) => {
                    self.heard(location, Class::Read, &error);
                    let Some(pause) = tries.after(&error) else {
                        listing.fail([self.named(error)]);
                        return listing;
                    };
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn call<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &str,
        location: &str,
        class: Class,
        deadline: Duration,
        call: impl Fn() -> F,
    ) -> Result<T> {
        self.tried(operation, location, class, deadline, call).await.0
    }

    /// The answer, and whether a try before the last may have been heard all the same.
    async fn tried<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &str,
        location: &str,
        class: Class,
        deadline: Duration,
        call: impl Fn() -> F,
    ) -> (Result<T>, bool) {
        let mut tries = self.policy.retries.tries();
        let mut heard = false;
        loop {
            self.turn(location, class).await;
            let answer = tokio::time::timeout(deadline, call()).await;
            let error = match answer {
                Ok(Ok(answer)) => return (Ok(answer), heard),
                Ok(Err(error)) => error,
                // What a call does that nobody waits for any more is not known: it is not made a second time.
                Err(_) => return (Err(self.late(operation, location, deadline)), heard),
            };
            self.heard(location, class, &error);
            let Some(pause) = tries.after(&error) else { return (Err(self.named(error)), heard) };
            let open = error.kind() == ErrorKind::Unavailable && !error.is_nothing_done();
            heard |= open || error.is_partly_done();
            tokio::time::sleep(pause).await;
        }
    }

    async fn turn(&self, location: &str, class: Class) {
        self.budgets.take(self.scope(), location, class).await;
    }

    fn heard(&self, location: &str, class: Class, error: &Error) {
        if error.kind() == ErrorKind::Throttled {
            self.budgets.throttled(self.scope(), location, class, error.retry());
        }
    }

    fn late(&self, operation: &str, location: &str, deadline: Duration) -> Error {
        let reason = format!("no answer within {}", humantime::format_duration(deadline));
        let error = Error::unavailable(operation, reason).with_provider(self.scope().provider);
        if location.is_empty() { error } else { error.with_resource(location) }
    }

    fn named(&self, error: Error) -> Error {
        if error.provider().is_some() { error } else { error.with_provider(self.scope().provider) }
    }
}

#[cfg(test)]
mod tests;
