//! Which resources a command is about: named one by one, never "all" by leaving something out.

use std::collections::BTreeMap;

use crate::model::resource::{
    Image, Instance, Kind, Network, PROTECTED_TAG, ResourceId, Snapshot, Subnet, Volume, is_protected,
};
use crate::provider::Listing;
use crate::{Error, ErrorKind, Result};

/// What can be selected.
pub trait Subject: Clone + Send {
    /// Its id.
    fn id(&self) -> &ResourceId;
    /// The name people gave it.
    fn name(&self) -> Option<&str>;
    /// What protects it, if something does.
    fn protected(&self) -> Option<String>;
    /// The instance that it is a part of the past of.
    fn instance(&self) -> Option<&ResourceId> {
        None
    }
}

macro_rules! subject {
    ($($type:ty: $name:expr $(, $instance:expr)?;)*) => {$(
        impl Subject for $type {
            fn id(&self) -> &ResourceId {
                &self.id
            }

            fn name(&self) -> Option<&str> {
                let name: fn(&$type) -> Option<&str> = $name;
                name(self)
            }

            fn protected(&self) -> Option<String> {
                tagged(&self.tags)
            }

            $(fn instance(&self) -> Option<&ResourceId> {
                let instance: fn(&$type) -> Option<&ResourceId> = $instance;
                instance(self)
            })?
        }
    )*};
}

subject! {
    Volume: |volume| volume.name.as_deref();
    Snapshot: |snapshot| snapshot.name.as_deref(),
        |snapshot| snapshot.of.as_ref().filter(|of| of.kind == Kind::Instance);
    Network: |network| network.name.as_deref();
    Subnet: |subnet| subnet.name.as_deref();
    Image: |image| Some(&image.name);
}

impl Subject for Instance {
    fn id(&self) -> &ResourceId {
        &self.id
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn protected(&self) -> Option<String> {
        let own = (self.protected == Some(true)).then(|| "the provider's own guard".to_owned());
        own.or_else(|| tagged(&self.tags))
    }
}

fn tagged(tags: &BTreeMap<String, String>) -> Option<String> {
    is_protected(tags).then(|| format!("the tag {PROTECTED_TAG}"))
}

/// The resource that a person means: by its whole id, the provider's id, or a name that only one has.
///
/// # Errors
/// [`ErrorKind::NotFound`] if none is meant, and [`ErrorKind::Unavailable`] if it may be where the list is not complete;
/// [`ErrorKind::Invalid`] if several are.
pub fn one<'a, T: Subject>(listing: &'a Listing<T>, what: &str, name: &str) -> Result<&'a T> {
    let by_id = listing.items.iter().find(|item| item.id().to_string() == name);
    if let Some(found) = by_id {
        return Ok(found);
    }
    let matching = |item: &&T| item.id().native_id == name || item.name() == Some(name);
    let found: Vec<&T> = listing.items.iter().filter(matching).collect();
    match found[..] {
        [one] => Ok(one),
        // A place that is not there has nothing.
        [] if listing.errors.iter().all(|error| error.kind() == ErrorKind::NotFound) => {
            Err(Error::new(ErrorKind::NotFound, "find", format!("there is no such {what}"))
                .with_resource(name))
        }
        [] => {
            let failed = listing.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            let reason = format!("it is not in what could be listed{failed}");
            Err(Error::unavailable(format!("find {what}"), reason).with_resource(name))
        }
        _ => {
            let ids: Vec<_> = found.iter().map(|item| item.id().to_string()).collect();
            let reason = format!("{} have this name; say which by id: {}", ids.len(), ids.join(", "));
            Err(Error::invalid(format!("choose {what}"), reason).with_resource(name))
        }
    }
}

/// As [`one`], for what is to be changed: a name is not enough where a place could not be asked, which may have another of
/// that name.
///
/// # Errors
/// As [`one`]; [`ErrorKind::Unavailable`] if it is not sure that only one is meant.
pub fn sure<'a, T: Subject>(listing: &'a Listing<T>, what: &str, name: &str) -> Result<&'a T> {
    let found = one(listing, what, name)?;
    let asked = |error: &&Error| error.kind() != ErrorKind::NotFound;
    match listing.errors.iter().find(asked) {
        Some(error) if found.id().to_string() != name => {
            let reason =
                format!("another may have this name where nobody answered ({error}); write {}", found.id());
            Err(Error::unavailable(format!("choose {what}"), reason).with_resource(name))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(native_id: &str, name: &str) -> Network {
        let id: ResourceId = format!("kvm/a/here/network/{native_id}").parse().unwrap();
        assert_eq!(id.kind, Kind::Network);
        Network {
            id,
            name: Some(name.into()),
            mode: None,
            cidrs: vec![],
            active: None,
            bridge: None,
            tags: [].into(),
        }
    }

    #[test]
    fn a_name_means_one_resource_or_is_refused() {
        let items = vec![network("1", "a"), network("2", "b"), network("3", "b")];
        let mut listing = Listing { items, ..Listing::default() };
        assert_eq!(one(&listing, "network", "a").unwrap().id.native_id, "1");
        assert_eq!(one(&listing, "network", "3").unwrap().id.native_id, "3");
        assert_eq!(one(&listing, "network", "kvm/a/here/network/2").unwrap().id.native_id, "2");
        let several = one(&listing, "network", "b").unwrap_err();
        assert!(several.to_string().contains("kvm/a/here/network/2, kvm/a/here/network/3"), "{several}");
        assert_eq!(one(&listing, "network", "c").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(sure(&listing, "network", "a").is_ok());
        listing.fail([Error::unavailable("list", "busy")]);
        assert!(one(&listing, "network", "a").is_ok());
        let unsure = sure(&listing, "network", "a").unwrap_err();
        assert!(unsure.to_string().contains("write kvm/a/here/network/1"), "{unsure}");
        assert!(sure(&listing, "network", "kvm/a/here/network/1").is_ok());
        assert_eq!(one(&listing, "network", "c").unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_tag_protects() {
        let mut one = network("1", "a");
        assert_eq!(one.protected(), None);
        one.tags.insert(PROTECTED_TAG.into(), "true".into());
        assert!(one.protected().unwrap().contains(PROTECTED_TAG));
        one.tags.insert(PROTECTED_TAG.into(), "false".into());
        assert_eq!(one.protected(), None);
    }
}
