//! Where measurements come from, and where resources are managed. A provider knows the model and nothing else of ours.
//!
//! - Telemetry: [`Collector::discover`] says what there is to measure, in shards that each keep their own high-water mark,
//!   and [`Collector::collect`] measures one shard for one window.
//! - Management: a [`Provider`] says what it can do ([`Capabilities`]), lists what there is ([`Inventory`]), makes a
//!   [`Plan`] of a change, and carries out each of its steps through the trait that the step belongs to ([`Lifecycle`],
//!   [`Volumes`], [`Snapshots`], [`Networks`], [`Images`]).
//!
//! Deadlines, retries and rate budgets are in none of them: they are layers around a provider ([`Client`]).

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::model::resource::{
    Cost, Image, Instance, Kind, Network, Price, Region, ResourceId, Size, Snapshot, Subnet, Volume, Zone,
};
use crate::model::{MetricBatch, Timestamp};
use crate::{Error, ErrorKind, Result};

pub mod action;
pub mod capability;
mod care;
pub mod client;
pub mod listing;
pub mod perform;
pub mod plan;
pub mod spec;
pub mod token;

pub use action::{Action, Consents, Guards, ResizePolicy, Stop, Target};
pub use capability::Capabilities;
pub use care::HIDDEN;
pub use client::Client;
pub use listing::{Listing, Page, Pages};
pub use plan::{Downtime, Leftover, Plan, Step};
pub use spec::{
    DiskSpec, InstanceSpec, KernelSpec, NetworkSpec, SizeSpec, SnapshotSpec, SubnetSpec, VolumeChange,
    VolumeSpec,
};
pub use token::Token;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(not(feature = "aws"))]
#[path = "aws/absent.rs"]
pub mod aws;
#[cfg(feature = "containerd")]
pub mod containerd;
#[cfg(not(feature = "containerd"))]
#[path = "containerd/absent.rs"]
pub mod containerd;
pub mod flavours;
pub mod host;
#[cfg(feature = "kvm")]
pub mod kvm;
#[cfg(not(feature = "kvm"))]
#[path = "kvm/absent.rs"]
pub mod kvm;
pub mod mapping;
pub mod rates;
pub mod status;

/// Whether this build can reach AWS. Without it `aws` sources are understood, and refused with that reason.
pub const AWS: bool = cfg!(feature = "aws");
/// Whether this build can reach libvirt. Without it `kvm` sources are understood, and refused with that reason.
pub const KVM: bool = cfg!(feature = "kvm");
/// Whether this build can reach containerd. Without it `containerd` sources are understood, and refused with that reason.
pub const CONTAINERD: bool = cfg!(feature = "containerd");

/// A part of a source with its own checkpoint: a region of an account, a hypervisor connection, this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub String);

/// The time a collection is for, in nanoseconds since 1970 UTC, start exclusive and end inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Everything up to here was collected before.
    pub start: i64,
    /// The tick that this collection belongs to; live sources stamp their rows with it.
    pub end: i64,
}

/// What one collection brought.
#[derive(Debug, Default)]
pub struct Collection {
    /// Rows by table; tables without rows are left out.
    pub batches: Vec<MetricBatch>,
    /// What failed beside the rows that came: one bad guest or disk never costs the others.
    pub faults: Vec<Error>,
    /// Up to when what was read will not change any more, in nanoseconds since 1970 UTC; the next window begins there, and
    /// rows that come again replace those of the first time. All of the window if left out; its start if nothing was asked.
    pub reached: Option<i64>,
}

impl Window {
    /// The window in parts of at most `longest`, oldest first.
    pub fn parts(self, longest: Option<Duration>) -> impl Iterator<Item = Self> {
        let length =
            longest.map_or(i64::MAX, |longest| i64::try_from(longest.as_nanos()).unwrap_or(i64::MAX)).max(1);
        let mut start = self.start;
        let mut first = true;
        std::iter::from_fn(move || {
            if start >= self.end && !first {
                return None;
            }
            first = false;
            let part = Self { start, end: start.saturating_add(length).min(self.end) };
            start = part.end;
            Some(part)
        })
    }
}

impl Collection {
    /// Rows in all batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(MetricBatch::rows).sum()
    }
}

/// A source of measurements.
#[async_trait]
pub trait Collector: Send + Sync {
    /// The shards there are now. Called at the start and again while running; a shard that is missing has ended.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] while the other side does not answer: the pipeline waits and asks again.
    async fn discover(&self) -> Result<Vec<Shard>>;

    /// Measures one shard. Calls for the same shard never overlap.
    ///
    /// # Errors
    /// Only when nothing could be measured; a part that failed goes into [`Collection::faults`].
    async fn collect(&self, shard: &Shard, window: Window) -> Result<Collection>;

    /// Measures one shard piece by piece, for what would take too much memory at once: rows of each piece are on their way
    /// before the next is read. The window is settled when all pieces have come, up to the earliest
    /// [`Collection::reached`] of theirs; after an error all of it is asked for again.
    fn pieces<'a>(&'a self, shard: &'a Shard, window: Window) -> BoxStream<'a, Result<Collection>> {
        stream::once(self.collect(shard, window)).boxed()
    }

    /// How much of the past can be brought by one collection, of a source that can read it: what is longer is asked for
    /// in parts of this length, oldest first, so that making up for a long stop takes no more memory than a short one.
    /// `None` for a source that only knows what is now.
    fn longest_window(&self) -> Option<Duration> {
        None
    }

    /// Hears the time that it is, in nanoseconds since 1970, before each collection: a window that is read in parts ends
    /// earlier, and how old something is decides what a provider still knows of it and whether it may change.
    fn told(&self, _now: i64) {}

    /// Lets connections and threads go; called once, after the last collection.
    async fn close(&self) {}
}

/// Whose resources these are: the first two parts of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// `kvm`, `containerd`, `aws`, ...
    pub provider: &'static str,
    /// Account, subscription, project, connection URI or socket.
    pub account: String,
}

impl Scope {
    /// The id of a resource in it.
    pub fn id(&self, location: &str, kind: Kind, native_id: impl Into<String>) -> ResourceId {
        ResourceId {
            provider: self.provider.into(),
            account: self.account.clone(),
            location: location.into(),
            kind,
            native_id: native_id.into(),
        }
    }

    /// Whether a resource is in it.
    pub fn has(&self, id: &ResourceId) -> bool {
        id.provider == self.provider && id.account == self.account
    }
}

/// A place where resources are managed.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Whose resources these are.
    fn scope(&self) -> &Scope;

    /// What it can do; known without asking anybody.
    fn capabilities(&self) -> Capabilities;

    /// What there is.
    fn inventory(&self) -> &dyn Inventory;

    /// Instances are made, changed and deleted here.
    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        None
    }

    /// Volumes are made, changed and deleted here.
    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }

    /// Snapshots are made and deleted here.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// Networks and subnets are made and deleted here.
    fn networks(&self) -> Option<&dyn Networks> {
        None
    }

    /// Images are read from archives, or deleted, here.
    fn images(&self) -> Option<&dyn Images> {
        None
    }

    /// Prices are known here.
    fn pricing(&self) -> Option<&dyn Pricing> {
        None
    }

    /// The steps of a change, none of them done yet. `now` is the instance that it is about, as it is.
    ///
    /// # Errors
    /// The change cannot be made, or not in the way that was asked for.
    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        Ok(Plan::simple(wanted, now))
    }

    /// Hears what an interrupted operation remembers, before it goes on, and until when that was written down. A provider
    /// whose lists know late of what was made takes care not to miss it.
    fn remember(&self, _past: Past<'_>, _at: Timestamp) {}

    /// Lets connections and threads go.
    async fn close(&self) {}
}

/// What an interrupted operation remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past<'a> {
    /// It made this.
    Made(&'a ResourceId),
    /// It began the step with this token, and never heard how that ended.
    Begun(Token),
}

/// What there is, place by place. A kind that [`Capabilities::lists`] denies answers [`ErrorKind::Unsupported`].
#[async_trait]
pub trait Inventory: Send + Sync {
    /// The places; the native id of each is the `location` of what is in it.
    fn regions(&self) -> Pages<'_, Region>;

    /// Instances of a place.
    fn instances<'a>(&'a self, location: &'a str) -> Pages<'a, Instance>;

    /// One instance.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] only if the provider says clearly that it is gone.
    async fn instance(&self, id: &ResourceId) -> Result<Instance>;

    /// Parts of a region.
    fn zones<'a>(&'a self, _location: &'a str) -> Pages<'a, Zone> {
        absent(Kind::Zone)
    }

    /// Sizes that instances of a place can have.
    fn sizes<'a>(&'a self, _location: &'a str) -> Pages<'a, Size> {
        absent(Kind::Size)
    }

    /// Images of a place.
    fn images<'a>(&'a self, _location: &'a str) -> Pages<'a, Image> {
        absent(Kind::Image)
    }

    /// Volumes of a place.
    fn volumes<'a>(&'a self, _location: &'a str) -> Pages<'a, Volume> {
        absent(Kind::Volume)
    }

    /// Snapshots of a place, of volumes and of instances.
    fn snapshots<'a>(&'a self, _location: &'a str) -> Pages<'a, Snapshot> {
        absent(Kind::Snapshot)
    }

    /// Networks of a place.
    fn networks<'a>(&'a self, _location: &'a str) -> Pages<'a, Network> {
        absent(Kind::Network)
    }

    /// Subnets of a place.
    fn subnets<'a>(&'a self, _location: &'a str) -> Pages<'a, Subnet> {
        absent(Kind::Subnet)
    }

    /// Prices that hold in a place.
    fn prices<'a>(&'a self, _location: &'a str) -> Pages<'a, Price> {
        absent(Kind::Price)
    }
}

fn absent<'a, T: Send + 'a>(kind: Kind) -> Pages<'a, T> {
    listing::no_pages(absent_error(kind))
}

fn absent_error(kind: Kind) -> Error {
    let reason = format!("this provider has no {kind}s, or none that it was told of");
    Error::new(ErrorKind::Unsupported, format!("list {kind}s"), reason)
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// What it made.
    pub made: Option<ResourceId>,
    /// Whether anything changed; not, when it was so already.
    pub changed: bool,
    /// What a person should know.
    pub note: Option<String>,
}

impl Done {
    /// Something was changed.
    pub fn changed() -> Self {
        Self { changed: true, ..Self::default() }
    }

    /// Something was made.
    pub fn made(id: ResourceId) -> Self {
        Self { made: Some(id), changed: true, note: None }
    }

    /// It was so already.
    pub fn already() -> Self {
        Self::default()
    }

    /// With a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// The life of instances.
///
/// Every call is one step of a plan and happens once for one token, however often it is made. What is so already
/// succeeds with [`Done::already`]; but what this token has made is [`Done::made`], changed and all, however often it is
/// asked for: the answer before may have been lost, and who asks again may have to take it back. (Where a provider cannot
/// tell whose doing a state is, as with a start or a stop, `already` will do: callers remember that they have asked
/// before.) A call returns when the provider has taken it on; who needs the state that it leads to looks for it.
///
/// A call that fails sets back what it did itself, where it can. An error then says that nothing was changed, but for
/// [`ErrorKind::Unavailable`], [`ErrorKind::Capacity`] and [`ErrorKind::Throttled`], which leave that open. Where something
/// stays done the error is [`Error::partly_done`], whatever its kind: the step's way back is taken then.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Makes an instance that does not run yet, or one that runs where the provider knows no other kind.
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done>;

    /// Starts it, or wakes it when it is suspended.
    async fn start(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Asks it to stop and waits for the grace time; then stops it the hard way, if `how` says so.
    async fn stop(&self, id: &ResourceId, how: &Stop, token: Token) -> Result<Done>;

    /// Keeps its memory and takes its processors away.
    async fn suspend(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Lets it go on.
    async fn resume(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Gives it another size within what `policy` allows.
    async fn resize(
        &self,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
        token: Token,
    ) -> Result<Done>;

    /// Deletes it, with what the consents name.
    async fn delete(&self, id: &ResourceId, consents: Consents, token: Token) -> Result<Done>;

    /// Sets the provider's own guards of it, or lifts those that are not named.
    async fn protect(&self, id: &ResourceId, _guards: Guards, _token: Token) -> Result<Done> {
        let reason = "this provider has no guards of its own";
        Err(Error::new(ErrorKind::Unsupported, "protect instance", reason).with_resource(id.to_string()))
    }
}

/// Disks that outlive instances. As [`Lifecycle`].
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes a volume, empty or as a copy.
    async fn create(&self, spec: &VolumeSpec, token: Token) -> Result<Done>;

    /// Makes it larger, also while it is attached.
    async fn grow(&self, id: &ResourceId, size_bytes: u64, token: Token) -> Result<Done>;

    /// Gives it another class or other figures, also while it is attached.
    async fn change(&self, id: &ResourceId, _change: &VolumeChange, _token: Token) -> Result<Done> {
        let reason = "this provider's volumes stay of the class that they were made with";
        Err(Error::new(ErrorKind::Unsupported, "change volume", reason).with_resource(id.to_string()))
    }

    /// Deletes it. One that is attached is a [`ErrorKind::Conflict`].
    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Gives it to an instance.
    async fn attach(
        &self,
        id: &ResourceId,
        instance: &ResourceId,
        device: Option<&str>,
        token: Token,
    ) -> Result<Done>;

    /// Takes it away from an instance.
    async fn detach(&self, id: &ResourceId, instance: &ResourceId, token: Token) -> Result<Done>;
}

/// Contents kept from one time. As [`Lifecycle`].
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Makes one.
    async fn create(&self, spec: &SnapshotSpec, token: Token) -> Result<Done>;

    /// Makes a copy of it in another region.
    async fn copy(&self, id: &ResourceId, _location: &str, _token: Token) -> Result<Done> {
        let reason = "this provider's snapshots stay where they were made";
        Err(Error::new(ErrorKind::Unsupported, "copy snapshot", reason).with_resource(id.to_string()))
    }

    /// Goes back to it.
    async fn revert(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Deletes it.
    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done>;
}

/// Networks and their subnets. As [`Lifecycle`].
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes a network and puts it into use.
    async fn create(&self, spec: &NetworkSpec, token: Token) -> Result<Done>;

    /// Deletes it. One that is used is a [`ErrorKind::Conflict`].
    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done>;

    /// Makes a subnet.
    async fn create_subnet(&self, spec: &SubnetSpec, _token: Token) -> Result<Done> {
        let reason = "this provider makes a subnet only together with its network";
        Err(Error::new(ErrorKind::Unsupported, "create subnet", reason).with_resource(&spec.name))
    }

    /// Deletes a subnet.
    async fn delete_subnet(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let reason = "this provider deletes a subnet only together with its network";
        Err(Error::new(ErrorKind::Unsupported, "delete subnet", reason).with_resource(id.to_string()))
    }
}

/// What instances are made from. As [`Lifecycle`].
#[async_trait]
pub trait Images: Send + Sync {
    /// Reads an image from an archive on this machine.
    async fn import(
        &self,
        archive: &str,
        location: Option<&str>,
        name: Option<&str>,
        token: Token,
    ) -> Result<Done>;

    /// Deletes it.
    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done>;
}

/// What things cost.
#[async_trait]
pub trait Pricing: Send + Sync {
    /// What an instance of a size costs while it runs; `None` when no price is known.
    ///
    /// # Errors
    /// The prices cannot be read.
    async fn cost(&self, size: &Size, location: &str) -> Result<Option<Cost>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_in_parts_is_the_whole_window_once() {
        let window = Window { start: 5, end: 27 };
        let parts: Vec<_> =
            window.parts(Some(Duration::from_nanos(10))).map(|part| (part.start, part.end)).collect();
        assert_eq!(parts, [(5, 15), (15, 25), (25, 27)]);
        assert!(window.parts(None).eq([window]));
        let empty = Window { start: 5, end: 5 };
        assert!(empty.parts(Some(Duration::ZERO)).eq([empty]));
    }
}
