//! What the types of EBS's volumes can be, by EC2's reference of `CreateVolume`: looked at before anything is made or changed.

use super::error::failed;
use crate::{ErrorKind, Result};

/// The type of a volume of which nothing is said.
pub(super) const USUAL: &str = "gp3";

/// What is wanted of a volume; what is left out is EBS's choice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) gib: Option<i32>,
    pub(super) iops: Option<i32>,
    /// MiB per second.
    pub(super) throughput: Option<i32>,
}

struct Limits {
    gib: (i32, i32),
    /// Where operations are paid for.
    iops: Option<(i32, i32)>,
    /// Where throughput is paid for.
    throughput: Option<(i32, i32)>,
    /// EBS does not choose its operations.
    needs_iops: bool,
}

const CLASSES: [(&str, Limits); 7] = [
    ("gp2", plain(1, 16_384)),
    ("gp3", Limits { iops: Some((3_000, 80_000)), throughput: Some((125, 2_000)), ..plain(1, 65_536) }),
    ("io1", provisioned(plain(4, 16_384), 64_000)),
    ("io2", provisioned(plain(4, 65_536), 256_000)),
    ("sc1", plain(125, 16_384)),
    ("st1", plain(125, 16_384)),
    ("standard", plain(1, 1_024)),
];

const fn plain(least: i32, most: i32) -> Limits {
    Limits { gib: (least, most), iops: None, throughput: None, needs_iops: false }
}

const fn provisioned(plain: Limits, most: i32) -> Limits {
    Limits { iops: Some((100, most)), needs_iops: true, ..plain }
}

/// Refuses what no volume of this type can be. `iops` is the option that says how many operations it has.
///
/// # Errors
/// [`ErrorKind::Invalid`] with what can be.
pub(super) fn check(operation: &str, name: &str, class: &str, wanted: Wanted, iops: &str) -> Result<()> {
    let wrong = |reason: String| Err(failed(ErrorKind::Invalid, operation, name, reason));
    let Some((_, limits)) = CLASSES.iter().find(|(known, _)| *known == class) else {
        let known = CLASSES.map(|(known, _)| known).join(", ");
        return wrong(format!("EBS has no volumes of type {class}; choose one of {known}"));
    };
    let (least, most) = limits.gib;
    if let Some(gib) = wanted.gib.filter(|gib| !(least..=most).contains(gib)) {
        return wrong(format!("{class} has {least} to {most} GiB, not {gib}; choose another size or type"));
    }
    if limits.needs_iops && wanted.iops.is_none() {
        return wrong(format!("{class} has as many operations as are paid for; say how many with {iops}"));
    }
    for (what, wanted, limits) in
        [(iops, wanted.iops, limits.iops), ("throughput", wanted.throughput, limits.throughput)]
    {
        match (wanted, limits) {
            (None, _) => {}
            (Some(_), None) => return wrong(format!("{class} has no {what} to choose; leave it out")),
            (Some(wanted), Some((least, most))) if !(least..=most).contains(&wanted) => {
                return wrong(format!(
                    "{what} of {class} is {least} to {most}, not {wanted}; choose another"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_says_what_can() {
        let wanted = |gib, iops, throughput| Wanted { gib: Some(gib), iops, throughput };
        for (class, wanted, word) in [
            ("gp9", wanted(1, None, None), "gp2, gp3, io1"),
            ("gp3", wanted(102_400, None, None), "1 to 65536 GiB"),
            ("io2", wanted(3, Some(100), None), "4 to 65536 GiB"),
            ("st1", wanted(1, None, None), "125 to 16384 GiB"),
            ("io2", wanted(8, None, None), "say how many with iops"),
            ("gp2", wanted(8, Some(3_000), None), "no iops to choose"),
            ("gp3", wanted(8, None, Some(9_000)), "125 to 2000"),
            ("gp3", wanted(8, Some(100), None), "3000 to 80000"),
        ] {
            let error = check("create volume", "v", class, wanted, "iops").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
        check("create volume", "v", "gp3", wanted(1, Some(4_000), Some(250)), "iops").unwrap();
        check("create volume", "v", "io1", wanted(8, Some(100), None), "iops").unwrap();
    }
}
