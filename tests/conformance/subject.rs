//! What the suite has to be told about a provider.

use std::sync::Arc;
use std::time::Duration;

use barograph::model::resource::ResourceId;
use barograph::provider::{Action, Collector, InstanceSpec, Provider, SizeSpec, VolumeSpec};

/// A provider with a rig.
pub(crate) trait Subject: Send + Sync {
    /// The provider's name.
    fn name(&self) -> &'static str;

    /// The provider.
    fn provider(&self) -> Arc<dyn Provider>;

    /// What measures it.
    fn collector(&self) -> Arc<dyn Collector>;

    /// Where things are made.
    fn location(&self) -> String;

    /// The smallest instance that runs by itself and stops when it is asked to.
    fn instance(&self, name: &str) -> InstanceSpec;

    /// An instance that does not stop when it is asked to; `None` where there is none, because the provider always ends it.
    fn stubborn(&self, name: &str) -> Option<InstanceSpec>;

    /// A size that is neither the smallest instance's nor beyond what it can grow to while it runs.
    fn larger(&self) -> SizeSpec;

    /// A size that one of the larger size can go back to while it runs.
    fn back(&self) -> SizeSpec;

    /// A size that it can have only after a stop; `None` if it can always grow.
    fn beyond(&self) -> Option<SizeSpec>;

    /// Waits until an instance of this name, which was just started, hears what is asked of it.
    fn ready(&self, _name: &str) {}

    /// The tables that it declares, with the rows of which resource type.
    fn tables(&self) -> &'static [(&'static str, &'static str)];

    /// How far back there is something to measure.
    fn window(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// A volume of so many MiB, or of so many of a unit in which the provider counts; always a multiple of 16.
    fn volume(&self, name: &str, mib: u64) -> VolumeSpec {
        VolumeSpec { name: name.into(), size_bytes: Some(mib << 20), ..VolumeSpec::default() }
    }

    /// Whether a name is taken by the first that has it.
    fn unique_names(&self) -> bool {
        true
    }

    /// Whether snapshots are of volumes, not of instances.
    fn snapshots_of_volumes(&self) -> bool {
        false
    }

    /// What the provider claims and its rig cannot do.
    fn lacks(&self) -> &'static [&'static str] {
        &[]
    }

    /// An archive with an image, and the image's name.
    fn archive(&self) -> Option<(String, String)> {
        None
    }

    /// Whether an instance whose name begins so is the suite's own.
    fn is_ours(&self, name: &str) -> bool {
        name.starts_with("suite-")
    }

    /// Changes with more steps than one that this provider's own plans have, of an instance that runs.
    fn more_plans(&self, _running: &ResourceId) -> Vec<Action> {
        Vec::new()
    }
}
