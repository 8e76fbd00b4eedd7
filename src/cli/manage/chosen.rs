//! Which resources a command changes: named ones, or those that an expression selects; never all by leaving both out.

use std::process::ExitCode;

use clap::Args;

use super::arguments::{Changing, Connection, Selection, Where};
use super::{change, exit, list, tell};
use crate::analytics::resources::{self, Row};
use crate::cli::screen::Screen;
use crate::manage::{Managed, Places, Prepared, Subject, prepare, select};
use crate::model::resource::{Instance, ResourceId};
use crate::provider::client::Listed;
use crate::provider::{Action, Listing};
use crate::{Error, Result};

/// Names, or an expression.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Names, provider's ids or whole ids
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    at: Where,
}

/// What was found of it.
pub(super) struct Found<T> {
    /// In the order of the names, or of the listing.
    pub(super) items: Vec<T>,
    /// Whether a place could not be looked at.
    incomplete: bool,
}

impl Chosen {
    /// Finds what is meant.
    ///
    /// # Errors
    /// Nothing is named, or a name means no resource or several.
    pub(super) async fn find<T: Listed + Row + Subject>(
        &self,
        managed: &[Managed],
        screen: &Screen,
    ) -> Result<Found<T>> {
        if self.names.is_empty() && self.selection.expression.is_none() {
            let reason = format!("say which: names of {}s, or --where with an expression", <T as Row>::KIND);
            return Err(Error::invalid("choose", reason));
        }
        if !self.names.is_empty() && self.selection.expression.is_some() {
            return Err(Error::invalid("choose", "give names or --where, not both"));
        }
        let listing: Listing<T> = match whole_ids(&self.names) {
            Some(ids) => list::gathered(&named(managed, &ids), &places(&ids), screen).await,
            None => list::gathered(managed, &self.at.places(), screen).await,
        };
        if let Some(expression) = &self.selection.expression {
            for error in &listing.errors {
                tell(&format!("failed: {}", error.chain()));
            }
            let chosen = resources::matching(&listing.items, expression).await?;
            let items: Vec<_> = chosen.into_iter().filter_map(|at| listing.items.get(at).cloned()).collect();
            if items.is_empty() {
                let reason = format!("the expression is true for no {}", <T as Row>::KIND);
                return Err(
                    Error::new(crate::ErrorKind::NotFound, "choose", reason).with_resource(expression)
                );
            }
            return Ok(Found { items, incomplete: !listing.complete });
        }
        let mut items: Vec<T> = Vec::new();
        for name in &self.names {
            let found = select::sure(&listing, <T as Row>::KIND.as_str(), name)?;
            if !items.iter().any(|item| item.id() == found.id()) {
                items.push(found.clone());
            }
        }
        Ok(Found { items, incomplete: false })
    }
}

/// The names as ids, if all of them are whole ones: they say themselves where to look.
fn whole_ids(names: &[String]) -> Option<Vec<ResourceId>> {
    let ids = names.iter().map(|name| name.parse().ok()).collect::<Option<Vec<_>>>();
    ids.filter(|ids| !ids.is_empty())
}

/// The providers that ids name.
fn named(managed: &[Managed], ids: &[ResourceId]) -> Vec<Managed> {
    let is_named = |managed: &&Managed| ids.iter().any(|id| managed.client.scope().has(id));
    managed.iter().filter(is_named).cloned().collect()
}

/// The places that ids name.
fn places(ids: &[ResourceId]) -> Places {
    Places { only: ids.iter().map(|id| id.location.clone()).collect(), ..Places::default() }
}

/// Everything among which a name is looked for: all there is, or of a whole id its own place alone.
pub(super) async fn around<T: Listed>(managed: &[Managed], name: &str, screen: &Screen) -> Listing<T> {
    match whole_ids(&[name.to_owned()]) {
        Some(ids) => list::gathered(&named(managed, &ids), &places(&ids), screen).await,
        None => list::gathered(managed, &Places::default(), screen).await,
    }
}

/// One resource by name, in any place.
pub(super) async fn one<T: Listed + Subject>(managed: &[Managed], name: &str, screen: &Screen) -> Result<T> {
    let listing: Listing<T> = around(managed, name, screen).await;
    select::sure(&listing, T::KIND.as_str(), name).cloned()
}

/// The provider that a resource belongs to.
pub(super) async fn owner<'a>(managed: &'a [Managed], id: &ResourceId) -> Result<&'a Managed> {
    let of_scope: Vec<_> = managed.iter().filter(|managed| managed.client.scope().has(id)).collect();
    if let [_, _, ..] = of_scope[..] {
        // Several sources share one account, each with places of its own.
        for managed in &of_scope {
            let regions = managed.client.regions().await.items;
            if regions.iter().any(|region| region.id.native_id == id.location) {
                return Ok(managed);
            }
        }
    }
    of_scope.first().copied().ok_or_else(|| {
        Error::new(crate::ErrorKind::NotFound, "find provider", "none of the opened providers has it")
            .with_resource(id.to_string())
    })
}

/// Changes every chosen resource in the same way.
pub(super) async fn change<T: Listed + Row + Subject>(
    connection: &Connection,
    chosen: &Chosen,
    changing: &Changing,
    screen: &Screen,
    wanted: impl Fn(&T) -> Action,
) -> Result<ExitCode> {
    let managed = connection.open().await?;
    let found = chosen.find::<T>(&managed, screen).await?;
    let mut prepared: Vec<Prepared> = Vec::new();
    for item in &found.items {
        let owner = owner(&managed, item.id()).await?;
        let wanted = wanted(item);
        let instance = instance(owner, &wanted, item.instance()).await?;
        prepared.push(prepare(owner, &wanted, instance.as_ref(), item.protected()).await?);
    }
    let code = change::carry_out(&managed, prepared, changing, screen).await?;
    Ok(if found.incomplete && code == ExitCode::SUCCESS { ExitCode::from(exit::PARTIAL) } else { code })
}

/// The instance that a change depends on, as it is: the action's own, or the one that goes back to a snapshot of it.
/// Deleting a snapshot leaves its instance alone.
async fn instance(owner: &Managed, wanted: &Action, of: Option<&ResourceId>) -> Result<Option<Instance>> {
    let id = match (wanted.instance(), wanted) {
        (Some(instance), _) => Some(instance.id()?),
        (None, Action::RevertSnapshot { .. }) => of,
        (None, _) => None,
    };
    match id {
        Some(id) => Ok(Some(owner.client.instance(id).await?)),
        None => Ok(None),
    }
}

/// Makes something.
pub(super) async fn make(
    connection: &Connection,
    changing: &Changing,
    screen: &Screen,
    wanted: impl AsyncFnOnce(&Managed) -> Result<Action>,
) -> Result<ExitCode> {
    let managed = connection.open_one().await?;
    let wanted = wanted(&managed).await?;
    let prepared = prepare(&managed, &wanted, None, None).await?;
    change::carry_out(&[managed], vec![prepared], changing, screen).await
}
