//! What a container may use: its specification's limits as a size, and a size as limits.
//!
//! Stored specifications are read and changed as JSON, so that what we do not know in them stays as it is.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Map, Value, json};

use super::error::failed;
use crate::model::resource::Size;
use crate::provider::SizeSpec;
use crate::{ErrorKind, Result};

/// Length of the time over which the kernel counts a container's processor time, where none is written.
pub(super) const PERIOD: u64 = 100_000;
/// The kernel takes no smaller quota than a millisecond.
const LEAST_QUOTA: i64 = 1_000;
/// Below this runc's own start does not fit.
const LEAST_MEMORY: u64 = 4 << 20;
/// From here on a limit is the kernel's way of writing none.
const NO_LIMIT: u64 = 1 << 62;

/// The limits that a specification sets; none is `None`.
pub(super) fn size_of(spec: &Value) -> Size {
    let resources = &spec["linux"]["resources"];
    let quota = resources["cpu"]["quota"].as_i64().filter(|quota| *quota > 0);
    let period = resources["cpu"]["period"].as_u64().filter(|period| *period > 0).unwrap_or(PERIOD);
    let vcpus = quota.map(|quota| (Decimal::from(quota) / Decimal::from(period)).round_dp(4).normalize());
    let memory = resources["memory"]["limit"].as_i64().and_then(|limit| u64::try_from(limit).ok());
    let memory_bytes = memory.filter(|limit| (1..NO_LIMIT).contains(limit));
    Size { vcpus, memory_bytes, ..Size::default() }
}

/// The parts of `resources` that a size sets, to be given to the runtime and written to the specification. Parts that
/// the size leaves out are left out. A specification's own period stays.
///
/// # Errors
/// [`ErrorKind::Invalid`] for an amount that no container can have.
pub(super) fn limits(size: &SizeSpec, spec: &Value, id: &str) -> Result<Map<String, Value>> {
    let invalid = |reason: String| failed(ErrorKind::Invalid, "limit", id, reason);
    if size.max_vcpus.is_some() || size.max_memory_bytes.is_some() {
        let reason = "a container needs no room to grow; leave the maximum processors and memory out";
        return Err(failed(ErrorKind::Unsupported, "limit", id, reason));
    }
    let mut limits = Map::new();
    if let Some(vcpus) = size.vcpus {
        let period = spec["linux"]["resources"]["cpu"]["period"].as_u64().filter(|period| *period > 0);
        let period = period.unwrap_or(PERIOD);
        let quota = vcpus.checked_mul(Decimal::from(period)).and_then(|quota| quota.round().to_i64());
        let quota = quota.filter(|quota| *quota >= LEAST_QUOTA).ok_or_else(|| {
            invalid(format!("{vcpus} processors are too few or too many; the least is 0.01"))
        })?;
        limits.insert("cpu".into(), json!({ "quota": quota, "period": period }));
    }
    if let Some(bytes) = size.memory_bytes {
        let limit = i64::try_from(bytes).ok().filter(|_| (LEAST_MEMORY..NO_LIMIT).contains(&bytes));
        let limit = limit.ok_or_else(|| {
            invalid(format!("{bytes} bytes of memory are too little or too much; the least is 4 MiB"))
        })?;
        let mut memory = Map::from_iter([("limit".to_owned(), json!(limit))]);
        // The sum of memory and swap may not be below the memory alone: it moves with it.
        let resources = &spec["linux"]["resources"]["memory"];
        if let (Some(swap), Some(old)) = (resources["swap"].as_i64(), resources["limit"].as_i64())
            && swap > 0
        {
            let beside = swap.saturating_sub(old).max(0);
            memory.insert("swap".into(), json!(limit.saturating_add(beside)));
        }
        limits.insert("memory".into(), Value::Object(memory));
    }
    Ok(limits)
}

/// The limits that a specification has now for the parts that `limits` sets, so that they can be set back. A part
/// without a limit is written as the runtime's word for none.
pub(super) fn before(spec: &Value, limits: &Map<String, Value>) -> Map<String, Value> {
    let resources = &spec["linux"]["resources"];
    let mut before = Map::new();
    for (part, fields) in limits {
        let fields = fields.as_object().into_iter().flat_map(Map::keys);
        let old = fields.map(|field| {
            let none = if field == "period" { json!(PERIOD) } else { json!(-1) };
            let value = &resources[part][field];
            (field.clone(), if value.is_null() { none } else { value.clone() })
        });
        before.insert(part.clone(), Value::Object(old.collect()));
    }
    before
}

/// The specification with these limits.
pub(super) fn limited(mut spec: Value, limits: &Map<String, Value>) -> Value {
    for (part, fields) in limits {
        for (field, value) in fields.as_object().into_iter().flatten() {
            put(&mut spec, &["linux", "resources", part, field], value.clone());
        }
    }
    spec
}

fn put(value: &mut Value, path: &[&str], new: Value) {
    let Some((key, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Some(object) = value.as_object_mut() {
        put(object.entry(*key).or_insert(Value::Null), rest, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cpu: Value, memory: Value) -> Value {
        json!({ "ociVersion": "1.0.2", "linux": { "x": 1, "resources": { "cpu": cpu, "memory": memory } } })
    }

    fn wanted(vcpus: &str, memory_bytes: u64) -> SizeSpec {
        let vcpus = Some(vcpus.parse().unwrap());
        SizeSpec { vcpus, memory_bytes: Some(memory_bytes), ..SizeSpec::default() }
    }

    #[test]
    fn limits_are_a_size_and_none_is_none() {
        let size =
            size_of(&spec(json!({ "quota": 150_000, "period": 100_000 }), json!({ "limit": 64 << 20 })));
        assert_eq!((size.vcpus, size.memory_bytes), (Some("1.5".parse().unwrap()), Some(64 << 20)));
        let size = size_of(&spec(json!({ "quota": 50_000 }), json!({ "limit": 0x7FFF_FFFF_FFFF_F000_i64 })));
        assert_eq!((size.vcpus, size.memory_bytes), (Some("0.5".parse().unwrap()), None));
        for none in [spec(json!({ "quota": -1, "period": 100_000 }), json!({ "limit": -1 })), json!({})] {
            assert_eq!(size_of(&none), Size::default());
        }
    }

    #[test]
    fn a_size_is_written_into_the_specification_and_back() {
        let old = spec(
            json!({ "quota": 25_000, "period": 50_000, "shares": 7 }),
            json!({ "limit": 100 << 20, "swap": 150 << 20 }),
        );
        let limits = limits(&wanted("0.25", 200 << 20), &old, "a").unwrap();
        assert_eq!(limits["cpu"], json!({ "quota": 12_500, "period": 50_000 }));
        assert_eq!(limits["memory"], json!({ "limit": 200 << 20, "swap": 250 << 20 }));
        let back = before(&old, &limits);
        let new = limited(old.clone(), &limits);
        assert_eq!(new["linux"]["resources"]["cpu"]["shares"], 7);
        assert_eq!(size_of(&new).vcpus, Some("0.25".parse().unwrap()));
        assert_eq!(limited(new, &back), old);
    }

    #[test]
    fn what_had_no_limit_goes_back_to_none() {
        let bare = json!({ "linux": {} });
        let limits = limits(&wanted("1", 64 << 20), &bare, "a").unwrap();
        let back = before(&bare, &limits);
        assert_eq!(back["cpu"], json!({ "quota": -1, "period": PERIOD }));
        assert_eq!(back["memory"], json!({ "limit": -1 }));
        assert_eq!(size_of(&limited(limited(bare, &limits), &back)), Size::default());
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for (vcpus, memory) in [("0.001", 64 << 20), ("-1", 64 << 20), ("1", 1), ("1", u64::MAX)] {
            let error = limits(&wanted(vcpus, memory), &json!({}), "a").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let room = SizeSpec { max_vcpus: Some(Decimal::TWO), ..SizeSpec::default() };
        assert_eq!(limits(&room, &json!({}), "a").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
