//! What the table `status` says of an instance, in one place for all providers: what is measured and what is managed must
//! not have two words for one thing.

use crate::model::Value;
use crate::model::resource::{Size, State, Status};

/// The columns that mean the same everywhere, of an instance with this status and this size.
pub fn columns<'a>(status: &'a Status, size: &'a Size) -> [(&'static str, Value<'a>); 7] {
    [
        ("state", status.state.as_str().into()),
        ("up", status.state.is_up().into()),
        ("provider_state", (&status.provider_state).into()),
        ("reason", status.reason.as_ref().into()),
        ("size", size.name.as_ref().into()),
        ("vcpus", size.vcpus.and_then(|vcpus| f64::try_from(vcpus).ok()).into()),
        ("memory_bytes", size.memory_bytes.map(|bytes| bytes as f64).into()),
    ]
}

/// Those of the last row of an instance that is gone.
pub fn gone() -> [(&'static str, Value<'static>); 2] {
    [("state", State::Deleted.as_str().into()), ("up", State::Deleted.is_up().into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_what_winds_down_is_up() {
        let of = |status: &Status, size: &Size| {
            columns(status, size).map(|(column, value)| format!("{column}={value:?}")).join(" ")
        };
        let silent = of(&Status::new(State::Unknown, "no answer"), &Size::default());
        for null in ["up=Null", "reason=Null", "size=Null", "vcpus=Null", "memory_bytes=Null"] {
            assert!(silent.contains(null), "{silent}");
        }
        let size = Size { name: Some("small".into()), vcpus: "0.5".parse().ok(), ..Size::default() };
        let stopping = of(&Status::new(State::Stopping, "in shutdown").because("user"), &size);
        for known in ["up=Boolean(true)", "reason=Text(\"user\")", "size=Text(\"small\")", "vcpus=Float(0.5)"]
        {
            assert!(stopping.contains(known), "{stopping}");
        }
    }
}
