//! One list out of many places: each answers for itself, and what fails in one costs no other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream;

use super::Managed;
use crate::model::resource::{Region, ResourceId};
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

/// Leaves out what was found before, by its id. Sizes and prices have none, and are what they are.
fn first_of_each<T: Listed>(items: &mut Vec<T>) {
    let mut seen: BTreeSet<ResourceId> = BTreeSet::new();
    items.retain(|item| item.resource_id().is_none_or(|id| seen.insert(id.clone())));
}

/// Lists one kind from all providers and places; what two sources both have is listed once. `progress` hears how many were
/// found so far.
pub async fn list<T: Listed>(
    managed: &[Managed],
    places: &Places,
    progress: &(dyn Fn(usize) + Sync),
) -> Inventoried<T> {
    let found = AtomicUsize::new(0);
    let alone = managed.len() == 1;
    // Of several providers, those that have none of the kind simply have none.
    let (able, unable): (Vec<_>, Vec<_>) =
        managed.iter().partition(|managed| managed.client.capabilities().lists(T::KIND));
    if let ([], [only], true) = (&able[..], &unable[..], alone) {
        return only.client.list::<T>("", &|_| ()).await;
    }
    let (regions, mut all) = regions_of(&able, places).await;
    let of_provider = regions.iter().map(|(managed, regions)| async {
        let lists = regions.iter().map(|region| async {
            let before = AtomicUsize::new(0);
            let count = |now: usize| {
                let more = now.saturating_sub(before.swap(now, Ordering::Relaxed));
                progress(found.fetch_add(more, Ordering::Relaxed) + more);
            };
            managed.client.list::<T>(&region.id.native_id, &count).await
        });
        let mut whole = Listing::default();
        let mut lists = stream::iter(lists).buffered(AT_ONCE);
        while let Some(mut listing) = lists.next().await {
            listing.answered = usize::from(listing.complete);
            whole.join(listing);
        }
        whole
    });
    let mut providers = stream::iter(of_provider).buffered(AT_ONCE);
    while let Some(listing) = providers.next().await {
        all.join(listing);
    }
    first_of_each(&mut all.items);
    all
}

/// The places of all providers that are asked. A place that is asked for and that none of them has is an error.
pub async fn regions(managed: &[Managed], places: &Places) -> Listing<Region> {
    let (regions, mut all) = regions_of(&managed.iter().collect::<Vec<_>>(), places).await;
    all.items = regions.into_iter().flat_map(|(_, regions)| regions).collect();
    let mut seen = BTreeSet::new();
    all.items.retain(|region| seen.insert(region.id.clone()));
    all
}

/// The places that are asked, each with its provider, and what failed.
async fn regions_of<'a, T>(
    managed: &[&'a Managed],
    places: &Places,
) -> (Vec<(&'a Managed, Vec<Region>)>, Listing<T>) {
    let mut failed = Listing::default();
    let mut chosen = Vec::new();
    let mut known = BTreeSet::new();
    let asked = managed.iter().map(|managed| async { (*managed, managed.client.regions().await) });
    let mut asked = stream::iter(asked).buffered(AT_ONCE);
    while let Some((managed, regions)) = asked.next().await {
        failed.fail(regions.errors);
        let mut regions = regions.items;
        known.extend(regions.iter().map(|region| region.id.native_id.clone()));
        regions.retain(|region| places.has(&region.id.native_id) && region.enabled != Some(false));
        chosen.push((managed, regions));
    }
    // A place that is not among those of a provider that did not answer may be there all the same.
    if failed.complete {
        let there = || known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let missing = places.only.iter().filter(|place| !known.contains(*place)).map(|place| {
            let reason = format!("there is no such region; there are {}", there());
            Error::new(ErrorKind::NotFound, "list", reason).with_resource(place)
        });
        failed.fail(missing.collect::<Vec<_>>());
    }
    (chosen, failed)
}
