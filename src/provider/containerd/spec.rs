//! The specification of a new container: what its image says, what is wanted, and the usual walls around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, Mount, MountBuilder,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, SpecBuilder, User,
    get_default_maskedpaths, get_default_mounts, get_default_readonly_paths,
};
use serde_json::Value;

use super::config::bad_namespace;
use super::error::failed;
use super::resources;
use crate::provider::{InstanceSpec, SizeSpec};
use crate::{Error, ErrorKind, Result};

/// The path that programs are looked for in when the image names none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root inside a container may do, as containerd's own tools grant it.
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The options of [`InstanceSpec::options`], typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Path of the control group.
    pub(super) cgroup: Option<String>,
    /// Name of the machine inside.
    pub(super) hostname: Option<String>,
    /// Whether it shares the host's network instead of having only a loopback interface.
    pub(super) host_network: bool,
    /// Where its root file system is kept.
    pub(super) snapshotter: Option<String>,
    /// Who it runs as, instead of the image's user.
    pub(super) user: Option<String>,
    /// The folder that it begins in, instead of the image's.
    pub(super) workdir: Option<String>,
}

impl Options {
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name or value that is not known.
    pub(super) fn read(options: &BTreeMap<String, String>, id: &str) -> Result<Self> {
        let invalid = |reason: String| failed(ErrorKind::Invalid, "create the container", id, reason);
        let mut read = Self::default();
        for (key, value) in options {
            let text = || Some(value.clone());
            if value.is_empty() {
                return Err(invalid(format!("the option {key} is empty; leave it out instead")));
            }
            let absolute = value.starts_with('/') && !value.split('/').any(|part| part == "..");
            match key.as_str() {
                "cgroup" if absolute => read.cgroup = text(),
                "workdir" if absolute => read.workdir = text(),
                "cgroup" | "workdir" => {
                    return Err(invalid(format!(
                        "the option {key} is a path that begins with /, not {value:?}"
                    )));
                }
                "hostname" => read.hostname = text(),
                "network" => match value.as_str() {
                    "host" => read.host_network = true,
                    "none" => read.host_network = false,
                    _ => return Err(invalid(format!("the option network is host or none, not {value:?}"))),
                },
                "snapshotter" => read.snapshotter = text(),
                "user" => read.user = text(),
                _ => {
                    let known = "cgroup, hostname, network, snapshotter, user, workdir";
                    return Err(invalid(format!("there is no option {key}; there are {known}")));
                }
            }
        }
        Ok(read)
    }
}

/// Refuses what containers do not have, before anything is made.
///
/// # Errors
/// [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`], naming the part.
pub(super) fn check(spec: &InstanceSpec) -> Result<()> {
    let refused = |kind, reason: &str| Err(failed(kind, "create the container", &spec.name, reason));
    if let Some(reason) = bad_namespace(&spec.name) {
        return refused(ErrorKind::Invalid, &reason.replace("a namespace", "a container's id"));
    }
    if !spec.disks.is_empty() {
        return refused(ErrorKind::Unsupported, "containers have no disks; leave them out");
    }
    if !spec.networks.is_empty() {
        return refused(
            ErrorKind::Unsupported,
            "containerd has no networks; use the option network: host or none",
        );
    }
    if spec.kernel.is_some() {
        return refused(ErrorKind::Unsupported, "containers use this machine's kernel; leave it out");
    }
    if spec.architecture.as_ref().is_some_and(|wanted| wanted != std::env::consts::ARCH) {
        return refused(ErrorKind::Unsupported, "containers use this machine's processors");
    }
    if let Some(key) = spec.tags.keys().find(|key| key.starts_with(super::state::label::OURS)) {
        let reason = format!("the label {key} is kept for Barograph's own use");
        return refused(ErrorKind::Invalid, &reason);
    }
    if let Some(bad) = spec.environment.iter().find(|entry| !entry.contains('=') || entry.starts_with('=')) {
        // A value may be a secret.
        let name = bad.split('=').next().unwrap_or_default();
        let reason = format!("the environment has an entry {name:?} that is not written NAME=value");
        return refused(ErrorKind::Invalid, &reason);
    }
    Ok(())
}

/// The specification.
///
/// # Errors
/// [`ErrorKind::Invalid`] if there is no command, or a limit cannot be.
pub(super) fn build(
    namespace: &str,
    spec: &InstanceSpec,
    options: &Options,
    size: &SizeSpec,
    image: Option<&ImageConfig>,
    user: User,
) -> Result<Value> {
    let wrong = |error: oci_spec::OciSpecError| {
        failed(ErrorKind::Invalid, "describe the container", &spec.name, "its parts do not fit")
            .with_source(error)
    };
    let args = command(&spec.command, image);
    if args.is_empty() {
        let reason = "neither the image nor you name a command";
        return Err(failed(ErrorKind::Invalid, "create the container", &spec.name, reason));
    }
    let capabilities: Capabilities = CAPABILITIES.into_iter().collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .map_err(wrong)?;
    let files =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).hard(1024_u64).soft(1024_u64);
    let folder = options.workdir.clone().or_else(|| image.and_then(|image| image.working_dir().clone()));
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(args)
        .env(environment(&spec.environment, image))
        .cwd(PathBuf::from(folder.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".into())))
        .capabilities(capabilities)
        .rlimits(vec![files.build().map_err(wrong)?])
        .no_new_privileges(true)
        .build()
        .map_err(wrong)?;
    let group = options.cgroup.clone().unwrap_or_else(|| format!("/{namespace}/{}", spec.name));
    let all = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().map_err(wrong)?;
    let linux = LinuxBuilder::default()
        .resources(LinuxResourcesBuilder::default().devices(vec![all]).build().map_err(wrong)?)
        .cgroups_path(PathBuf::from(group))
        .namespaces(namespaces(options).map_err(wrong)?)
        .masked_paths(get_default_maskedpaths())
        .readonly_paths(get_default_readonly_paths())
        .build()
        .map_err(wrong)?;
    let mut built = SpecBuilder::default()
        .version("1.0.2")
        .process(process)
        .root(RootBuilder::default().path("rootfs").readonly(false).build().map_err(wrong)?)
        .mounts(mounts(options).map_err(wrong)?)
        .linux(linux);
    if !options.host_network {
        // A machine's name has room for 64 characters.
        let name =
            options.hostname.clone().or_else(|| Some(spec.name.clone()).filter(|name| name.len() <= 63));
        if let Some(name) = name {
            built = built.hostname(name);
        }
    } else if let Some(name) = &options.hostname {
        built = built.hostname(name.clone());
    }
    let built = built.build().map_err(wrong)?;
    let built = serde_json::to_value(built).map_err(|error| {
        Error::invalid("describe the container", "it cannot be written as JSON").with_source(error)
    })?;
    let limits = resources::limits(size, &built, &spec.name)?;
    Ok(resources::limited(built, &limits))
}

/// The image's entry point stays; its command gives way to one that is wanted.
fn command(wanted: &[String], image: Option<&ImageConfig>) -> Vec<String> {
    let mut args = image.and_then(|image| image.entrypoint().clone()).unwrap_or_default();
    match wanted {
        [] => args.extend(image.and_then(|image| image.cmd().clone()).unwrap_or_default()),
        wanted => args.extend_from_slice(wanted),
    }
    args
}

/// The image's variables, those that are wanted in the place of others of their names.
fn environment(wanted: &[String], image: Option<&ImageConfig>) -> Vec<String> {
    let mut all = image.and_then(|image| image.env().clone()).unwrap_or_default();
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    for entry in wanted {
        match all.iter_mut().find(|other| name(other) == name(entry)) {
            Some(other) => other.clone_from(entry),
            None => all.push(entry.clone()),
        }
    }
    if !all.iter().any(|entry| entry.starts_with("PATH=")) {
        all.insert(0, PATH.into());
    }
    all
}

fn namespaces(options: &Options) -> Result<Vec<oci_spec::runtime::LinuxNamespace>, oci_spec::OciSpecError> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    if !options.host_network {
        kinds.push(LinuxNamespaceType::Network);
    }
    // With the older kind of control groups, containers see the host's names of them, as containerd's tools have it.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        kinds.push(LinuxNamespaceType::Cgroup);
    }
    kinds.into_iter().map(|kind| LinuxNamespaceBuilder::default().typ(kind).build()).collect()
}

fn mounts(options: &Options) -> Result<Vec<Mount>, oci_spec::OciSpecError> {
    let mount = |target: &str, kind: &str, source: &str, flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        MountBuilder::default().destination(target).typ(kind).source(source).options(flags).build()
    };
    // Control groups are not for containers to see, and `/proc` has no flags in the library's list.
    let kept =
        |mount: &Mount| !["/proc", "/sys/fs/cgroup"].map(Path::new).contains(&mount.destination().as_path());
    let mut mounts = vec![mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?];
    mounts.extend(get_default_mounts().into_iter().filter(kept));
    mounts.push(mount("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?);
    if options.host_network {
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            if Path::new(file).exists() {
                mounts.push(mount(file, "bind", file, &["rbind", "ro"])?);
            }
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests;
