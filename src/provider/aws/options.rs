//! What only EC2 knows of an instance or a volume that is to be made, by names of its own. A name that is not known is
//! refused, and so is a value that does not fit: nothing is left out in silence.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::error::failed;
use crate::model::Size;
use crate::provider::Guards;
use crate::{Error, ErrorKind, Result};

/// Options of instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InstanceOptions {
    /// Part of the region.
    pub(super) zone: Option<String>,
    /// Name of the key pair to sign in with.
    pub(super) key: Option<String>,
    /// Security groups, by name or id.
    pub(super) security_groups: Vec<String>,
    /// Text that the instance gets at its first start.
    pub(super) user_data: Option<String>,
    /// Instance profile, by name or ARN.
    pub(super) instance_profile: Option<String>,
    /// Whether it gets a public address; as the subnet says if left out.
    pub(super) public_address: Option<bool>,
    /// Made so that it can hibernate.
    pub(super) hibernation: bool,
    /// What EC2 is to refuse to do to it.
    pub(super) guards: Guards,
    /// Measured every minute, for money.
    pub(super) detailed_monitoring: bool,
    /// Size of its first disk, where the image's is too small.
    pub(super) root_size: Option<u64>,
    /// Type of its first disk.
    pub(super) root_class: Option<String>,
    /// Operations per second of its first disk that are paid for.
    pub(super) root_iops: Option<i32>,
    /// Whether its own metadata is given only for a token: `required` or `optional`.
    pub(super) metadata_tokens: Option<String>,
}

/// EC2 is to refuse to terminate it.
pub(super) const PROTECTION: &str = "protection";
/// EC2 is to refuse to stop it.
pub(super) const STOP_PROTECTION: &str = "stop_protection";

/// Options of volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct VolumeOptions {
    /// Operations per second that are paid for.
    pub(super) iops: Option<i32>,
    /// MiB per second that are paid for.
    pub(super) throughput: Option<i32>,
    /// Encrypted; as the account says if left out.
    pub(super) encrypted: Option<bool>,
    /// The key that it is encrypted with.
    pub(super) kms_key: Option<String>,
    /// Whether several instances may have it at once.
    pub(super) multi_attach: Option<bool>,
}

const INSTANCE: [&str; 14] = [
    "zone",
    "key",
    "security_groups",
    "user_data",
    "instance_profile",
    "public_address",
    "hibernation",
    PROTECTION,
    STOP_PROTECTION,
    "detailed_monitoring",
    "root_size",
    "root_class",
    "root_iops",
    "metadata_tokens",
];
const VOLUME: [&str; 5] = ["iops", "throughput", "encrypted", "kms_key", "multi_attach"];
/// A volume that is there can get these; the others are settled when it is made.
const CHANGE: [&str; 2] = ["iops", "throughput"];

/// The longest text that EC2 takes, before it is written in base64.
const LONGEST_USER_DATA: usize = 16 * 1_024;

impl InstanceOptions {
    /// # Errors
    /// [`ErrorKind::Invalid`] for an unknown name and a value that does not fit.
    pub(super) fn read(name: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let from = Options { of: name, all: options };
        from.known(&INSTANCE)?;
        let flag = |name| from.parsed::<bool>(name, "true or false").map(|set| set == Some(true));
        let groups = from.text("security_groups")?.unwrap_or_default();
        let read = Self {
            zone: from.text("zone")?,
            key: from.text("key")?,
            security_groups: groups
                .split(',')
                .map(str::trim)
                .filter(|one| !one.is_empty())
                .map(Into::into)
                .collect(),
            user_data: from.text("user_data")?,
            instance_profile: from.text("instance_profile")?,
            public_address: from.parsed("public_address", "true or false")?,
            hibernation: flag("hibernation")?,
            guards: Guards { delete: flag(PROTECTION)?, stop: flag(STOP_PROTECTION)? },
            detailed_monitoring: flag("detailed_monitoring")?,
            root_size: from.parsed::<Size>("root_size", "a size, for example 20GiB")?.map(|size| size.0),
            root_class: from.text("root_class")?,
            root_iops: from.positive("root_iops")?,
            metadata_tokens: from.text("metadata_tokens")?,
        };
        if read.metadata_tokens.as_deref().is_some_and(|word| !matches!(word, "required" | "optional")) {
            return Err(from.wrong("metadata_tokens", "required or optional"));
        }
        if read.user_data.as_ref().is_some_and(|text| text.len() > LONGEST_USER_DATA) {
            return Err(from.wrong("user_data", "up to 16 KiB"));
        }
        Ok(read)
    }
}

impl VolumeOptions {
    /// # Errors
    /// As [`InstanceOptions::read`].
    pub(super) fn read(name: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let from = Options { of: name, all: options };
        from.known(&VOLUME)?;
        Ok(Self {
            iops: from.positive("iops")?,
            throughput: from.positive("throughput")?,
            encrypted: from.parsed("encrypted", "true or false")?,
            kms_key: from.text("kms_key")?,
            multi_attach: from.parsed("multi_attach", "true or false")?,
        })
    }

    /// Of a volume that is there.
    ///
    /// # Errors
    /// As [`InstanceOptions::read`].
    pub(super) fn read_change(name: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        Options { of: name, all: options }.known(&CHANGE)?;
        Self::read(name, options)
    }
}

struct Options<'a> {
    of: &'a str,
    all: &'a BTreeMap<String, String>,
}

impl Options<'_> {
    fn known(&self, known: &[&str]) -> Result<()> {
        match self.all.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let reason = format!("there is no option {name}; there are {}", known.join(", "));
                Err(failed(ErrorKind::Invalid, "read the options of", self.of, reason))
            }
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.all.get(name) {
            Some(text) if text.is_empty() => Err(self.wrong(name, "something, or leave it out")),
            text => Ok(text.cloned()),
        }
    }

    fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        let text = self.all.get(name);
        text.map(|text| text.parse().map_err(|_| self.wrong(name, expected))).transpose()
    }

    fn positive(&self, name: &str) -> Result<Option<i32>> {
        let number = self.parsed::<i32>(name, "a number")?;
        if number.is_some_and(|number| number < 1) {
            Err(self.wrong(name, "a number above 0"))
        } else {
            Ok(number)
        }
    }

    /// No value is repeated: user data may hold what nobody else should see.
    fn wrong(&self, name: &str, expected: &str) -> Error {
        let reason = format!("the option {name} has a value that does not fit; write {expected}");
        failed(ErrorKind::Invalid, "read the options of", self.of, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn known_options_are_read() {
        let given = options(&[
            ("security_groups", "web, sg-1"),
            ("public_address", "false"),
            ("hibernation", "true"),
            ("root_size", "20GiB"),
        ]);
        let read = InstanceOptions::read("web", &given).unwrap();
        assert_eq!(read.security_groups, ["web", "sg-1"]);
        assert_eq!((read.public_address, read.hibernation, read.guards.delete), (Some(false), true, false));
        assert_eq!(read.root_size, Some(20 << 30));
        let read = VolumeOptions::read("v", &options(&[("iops", "4000")])).unwrap();
        assert_eq!(read, VolumeOptions { iops: Some(4_000), ..VolumeOptions::default() });
    }

    #[test]
    fn what_is_not_known_or_does_not_fit_is_refused() {
        for (name, value, word) in [
            ("no_such_option", "1", "no_such_option"),
            ("protection", "perhaps", "true or false"),
            ("root_size", "big", "a size"),
            ("zone", "", "leave it out"),
            ("metadata_tokens", "maybe", "required or optional"),
        ] {
            let error = InstanceOptions::read("web", &options(&[(name, value)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
        let secret = "s3cret".repeat(4_000);
        let error = InstanceOptions::read("web", &options(&[("user_data", &secret)])).unwrap_err();
        assert!(error.to_string().contains("16 KiB") && !error.to_string().contains("s3cret"));
        assert!(VolumeOptions::read("v", &options(&[("iops", "0")])).is_err());
        let error = VolumeOptions::read_change("v", &options(&[("encrypted", "true")])).unwrap_err();
        assert!(error.to_string().contains("iops, throughput"), "{error}");
    }
}
