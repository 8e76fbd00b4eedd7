//! Who a container's process runs as. An image may name a user, whose number only the image's own `/etc/passwd` knows:
//! it is read from the layers where they lie, without mounting them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use containerd_client::types::Mount;
use oci_spec::runtime::{User, UserBuilder};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::error::failed;
use crate::{ErrorKind, Result};

/// More than this is no list of users.
const LARGEST: u64 = 1 << 20;

/// The user that `wanted` (`name`, `number`, either with `:group`) is in an image with this root file system.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the image knows no such user or group.
pub(super) fn find(wanted: &str, root: &[Mount]) -> Result<User> {
    from_files(wanted, || read(root, "etc/passwd"), || read(root, "etc/group"))
}

fn from_files(
    wanted: &str,
    passwd: impl FnOnce() -> Option<String>,
    group: impl FnOnce() -> Option<String>,
) -> Result<User> {
    let unknown = |what: &str| {
        let reason = format!("the image has no such {what}; write its number");
        failed(ErrorKind::Invalid, "run as", wanted, reason)
    };
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd = passwd().unwrap_or_default();
    let number: Option<u32> = user.parse().ok();
    let entry = passwd.lines().map(fields).find(|fields| match number {
        Some(_) => fields.get(2) == Some(&user),
        None => fields.first() == Some(&user),
    });
    let of_entry = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)?.parse::<u32>().ok());
    let uid = number.or_else(|| of_entry(2)).ok_or_else(|| unknown("user"))?;
    let name = entry.as_ref().and_then(|fields| fields.first().copied()).unwrap_or_default();
    let groups = group().unwrap_or_default();
    let gid = match wanted_group {
        None => of_entry(3).unwrap_or(0),
        Some(wanted) => {
            let named = groups.lines().map(fields).find(|fields| fields.first() == Some(&wanted));
            let named = named.and_then(|fields| fields.get(2)?.parse().ok());
            named.or_else(|| wanted.parse().ok()).ok_or_else(|| unknown("group"))?
        }
    };
    let member = |fields: &Vec<&str>| {
        fields
            .get(3)
            .is_some_and(|members| !name.is_empty() && members.split(',').any(|member| member == name))
    };
    let others = groups.lines().map(fields).filter(member);
    let mut additional: Vec<u32> = vec![gid];
    additional
        .extend(others.filter_map(|fields| fields.get(2)?.parse::<u32>().ok()).filter(|other| *other != gid));
    UserBuilder::default()
        .uid(uid)
        .gid(gid)
        .additional_gids(additional)
        .build()
        .map_err(|error| failed(ErrorKind::Invalid, "run as", wanted, "this is no user").with_source(error))
}

fn fields(line: &str) -> Vec<&str> {
    line.trim().split(':').collect()
}

/// A file of a root file system that is not mounted: the uppermost layer that has it.
fn read(root: &[Mount], file: &str) -> Option<String> {
    let mount = root.first()?;
    let folders: Vec<&str> = match mount.r#type.as_str() {
        "overlay" => {
            let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
            let upper = option("upperdir=").into_iter();
            upper.chain(option("lowerdir=").into_iter().flat_map(|dirs| dirs.split(':'))).collect()
        }
        _ => vec![&mount.source],
    };
    folders.into_iter().find_map(|folder| read_inside(Path::new(folder), file))
}

/// A file below a folder, in which links lead nowhere else.
fn read_inside(folder: &Path, file: &str) -> Option<String> {
    let folder = File::open(folder).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(&folder, file, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let file = File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\nlogs:x:50:other,web\n";

    fn found(wanted: &str) -> Option<(u32, u32, Vec<u32>)> {
        let user = from_files(wanted, || Some(PASSWD.into()), || Some(GROUP.into())).ok()?;
        Some((user.uid(), user.gid(), user.additional_gids().clone().unwrap_or_default()))
    }

    #[test]
    fn a_user_is_a_name_or_a_number() {
        assert_eq!(found("web"), Some((1000, 1001, vec![1001, 50])));
        assert_eq!(found("1000"), Some((1000, 1001, vec![1001, 50])));
        assert_eq!(found("web:root"), Some((1000, 0, vec![0, 50])));
        assert_eq!(found("7:8"), Some((7, 8, vec![8])));
        assert_eq!(found("7"), Some((7, 0, vec![0])));
        assert_eq!(found(""), Some((0, 0, vec![0])));
        assert_eq!(found("nobody"), None);
        assert_eq!(found("web:nogroup"), None);
        let bare = from_files("5", || None, || None).unwrap();
        assert_eq!(bare.uid(), 5);
    }

    #[test]
    fn the_uppermost_layer_counts_and_no_link_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let dir = |name: &str| folder.path().join(name);
        for layer in ["upper", "middle", "lower"] {
            std::fs::create_dir_all(dir(layer).join("etc")).unwrap();
        }
        std::fs::write(dir("lower").join("etc/passwd"), "low").unwrap();
        std::fs::write(dir("middle").join("etc/passwd"), "mid").unwrap();
        std::fs::write(dir("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../../secret", dir("upper").join("etc/group")).unwrap();
        let option = |key: &str, names: &[&str]| {
            let dirs: Vec<_> = names.iter().map(|name| dir(name).display().to_string()).collect();
            format!("{key}={}", dirs.join(":"))
        };
        let mount = Mount {
            r#type: "overlay".into(),
            options: vec![option("upperdir", &["upper"]), option("lowerdir", &["middle", "lower"])],
            ..Mount::default()
        };
        assert_eq!(read(std::slice::from_ref(&mount), "etc/passwd").as_deref(), Some("mid"));
        assert_eq!(read(&[mount], "etc/group"), None);
        let bind =
            Mount { r#type: "bind".into(), source: dir("lower").display().to_string(), ..Mount::default() };
        assert_eq!(read(&[bind], "etc/passwd").as_deref(), Some("low"));
    }
}
