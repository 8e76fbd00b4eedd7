//! Who this machine is.

use crate::model::Identity;
use crate::{Error, Result};

/// The machine's identity: `resource_id` is the machine id where there is one, so that a renamed host stays one
/// series, and `resource_name` the host name.
pub(super) fn identity() -> Result<Identity> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok().filter(|name| !name.is_empty()).ok_or_else(|| {
        Error::invalid("read the host name", "it is empty or not UTF-8; set one with hostnamectl")
            .with_provider("host")
    })?;
    let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id = Some(machine_id.trim()).filter(|id| !id.is_empty()).unwrap_or(name);
    Ok(Identity { resource_id: id.into(), ..Identity::host(name) })
}
