//! One list out of many places: each answers for itself, and what fails in one costs no other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream;

use super::Managed;
use crate::model::resource::Region;
use crate::provider::Listing;
use crate::provider::client::Listed;
use crate::{Error, ErrorKind};

/// Places that are asked at the same time.
const AT_ONCE: usize = 8;

/// Which places of a provider are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Only these, if there are any.
    pub only: BTreeSet<String>,
    /// Not these.
    pub exclude: BTreeSet<String>,
}

/// Everything that was found of one kind, with what failed.
pub type Inventoried<T> = Listing<T>;

impl Places {
    fn has(&self, place: &str) -> bool {
        (self.only.is_empty() || self.only.contains(place)) && !self.exclude.contains(place)
    }
}

/// Lists one kind from all providers and places. `progress` hears how many were found so far.
pub async fn list<T: Listed>(
    managed: &[Managed],
    places: &Places,
    progress: &(dyn Fn(usize) + Sync),
) -> Inventoried<T> {
    let found = AtomicUsize::new(0);
    let alone = managed.len() == 1;
    let of_provider = managed.iter().map(|managed| async {
        if !managed.client.capabilities().lists(T::KIND) {
            // Of several providers, those that have none of the kind simply have none.
            return if alone { managed.client.list::<T>("", &|_| ()).await } else { Listing::default() };
        }
        let mut whole = Listing::default();
        let regions = regions(managed, places).await;
        whole.fail(regions.errors);
        let lists = regions.items.iter().map(|region| async {
            let before = AtomicUsize::new(0);
            let count = |now: usize| {
                let more = now.saturating_sub(before.swap(now, Ordering::Relaxed));
                progress(found.fetch_add(more, Ordering::Relaxed) + more);
            };
            managed.client.list::<T>(&region.id.native_id, &count).await
        });
        let mut lists = stream::iter(lists).buffered(AT_ONCE);
        while let Some(listing) = lists.next().await {
            whole.join(listing);
        }
        whole
    });
    let mut all = Listing::default();
    let mut providers = stream::iter(of_provider).buffered(AT_ONCE);
    while let Some(listing) = providers.next().await {
        all.join(listing);
    }
    all
}

/// The places of a provider that are asked. A place that is asked for and is not there is an error.
pub async fn regions(managed: &Managed, places: &Places) -> Listing<Region> {
    let mut regions = managed.client.regions().await;
    let known: BTreeSet<_> = regions.items.iter().map(|region| region.id.native_id.clone()).collect();
    regions.items.retain(|region| places.has(&region.id.native_id) && region.enabled != Some(false));
    if regions.complete {
        let missing = places.only.iter().filter(|place| !known.contains(*place)).map(|place| {
            let reason = format!(
                "there is no such region; there are {}",
                known.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            );
            Error::new(ErrorKind::NotFound, "list", reason)
                .with_provider(managed.client.scope().provider)
                .with_resource(place)
        });
        let missing: Vec<_> = missing.collect();
        regions.fail(missing);
    }
    regions
}
