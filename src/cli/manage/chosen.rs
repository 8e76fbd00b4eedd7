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
        let listing: Listing<T> = list::gathered(managed, &self.places(), screen).await;
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
            let found = select::one(&listing, <T as Row>::KIND.as_str(), name)?;
            if !items.iter().any(|item| item.id() == found.id()) {
                items.push(found.clone());
            }
        }
        Ok(Found { items, incomplete: false })
    }

    /// The places in which whole ids say that the resources are; else the places that were asked for.
    fn places(&self) -> Places {
        let ids: std::result::Result<Vec<ResourceId>, _> =
            self.names.iter().map(|name| name.parse()).collect();
        match ids {
            Ok(ids) if !ids.is_empty() => Places {
                only: ids.into_iter().map(|id| id.location).collect(),
                exclude: self.at.places().exclude,
            },
            _ => self.at.places(),
        }
    }
}

/// One resource by name, in any place.
pub(super) async fn one<T: Listed + Subject>(managed: &[Managed], name: &str, screen: &Screen) -> Result<T> {
    let listing: Listing<T> = list::gathered(managed, &Places::default(), screen).await;
    select::one(&listing, T::KIND.as_str(), name).cloned()
}

/// The provider that a resource belongs to.
pub(super) fn owner<'a>(managed: &'a [Managed], id: &ResourceId) -> Result<&'a Managed> {
    managed.iter().find(|managed| managed.client.scope().has(id)).ok_or_else(|| {
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
        let owner = owner(&managed, item.id())?;
        let wanted = wanted(item);
        let instance = instance(owner, &wanted).await?;
        prepared.push(prepare(owner, &wanted, instance.as_ref(), item.protected()).await?);
    }
    let code = change::carry_out(&managed, prepared, changing, screen).await?;
    Ok(if found.incomplete && code == ExitCode::SUCCESS { ExitCode::from(exit::PARTIAL) } else { code })
}

/// The instance that a change depends on, as it is.
pub(super) async fn instance(owner: &Managed, wanted: &Action) -> Result<Option<Instance>> {
    match wanted.instance() {
        Some(instance) => Ok(Some(owner.client.instance(instance.id()?).await?)),
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
