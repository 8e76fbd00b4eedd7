//! Whom rows are about.

use super::super::PROVIDER;
use super::machine::Machine;
use crate::model::Identity;

/// An instance, with what the inventory knows of it.
pub(super) fn identity(
    account: &str,
    region: &str,
    id: &str,
    machine: Option<&Machine>,
    observer: &str,
) -> Identity {
    Identity {
        provider: PROVIDER.into(),
        account: Some(account.to_owned()),
        region: Some(region.to_owned()),
        zone: machine.and_then(|machine| machine.zone.as_deref()).map(str::to_owned),
        resource_type: "instance".into(),
        resource_id: id.to_owned(),
        resource_name: machine.and_then(|machine| machine.name.as_deref()).map(str::to_owned),
        observer: observer.to_owned(),
    }
}

/// A resource's type from the name of its dimension, as `DBInstanceIdentifier` in `db_instance`.
pub(super) fn kind(dimension: &str) -> String {
    let name = ["Identifier", "Name", "Id"]
        .iter()
        .find_map(|end| dimension.strip_suffix(end).filter(|left| !left.is_empty()));
    let mut kind = String::new();
    let mut small = false;
    for c in name.unwrap_or(dimension).chars() {
        if c.is_uppercase() && small {
            kind.push('_');
        }
        small = c.is_lowercase() || c.is_ascii_digit();
        kind.extend(c.to_lowercase());
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_names_the_type_of_resource() {
        for (dimension, expected) in [
            ("DBInstanceIdentifier", "dbinstance"),
            ("LoadBalancerName", "load_balancer"),
            ("Service", "service"),
            ("Id", "id"),
        ] {
            assert_eq!(kind(dimension), expected);
        }
    }
}
