use oci_spec::image::ConfigBuilder;
use serde_json::json;

use super::*;
use crate::provider::DiskSpec;
use crate::provider::spec::{KernelSpec, VolumeSpec};

fn wanted() -> InstanceSpec {
    InstanceSpec { name: "web".into(), image: Some("i".into()), ..InstanceSpec::default() }
}

fn image() -> ImageConfig {
    ConfigBuilder::default()
        .entrypoint(vec!["/entry".to_owned()])
        .cmd(vec!["serve".to_owned()])
        .env(vec!["PATH=/bin".to_owned(), "A=1".to_owned()])
        .working_dir("/srv".to_owned())
        .build()
        .unwrap()
}

fn built(spec: &InstanceSpec, options: &[(&str, &str)], size: &SizeSpec) -> Result<Value> {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = Options::read(&options, &spec.name)?;
    build("prod", spec, &options, size, Some(&image()), User::default())
}

fn has_namespace(spec: &Value, kind: &str) -> bool {
    spec["linux"]["namespaces"].as_array().unwrap().iter().any(|namespace| namespace["type"] == kind)
}

#[test]
fn a_container_has_its_images_command_and_walls_around_it() {
    let spec = built(&wanted(), &[], &SizeSpec::default()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/entry", "serve"]));
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "A=1"]));
    assert_eq!(spec["process"]["cwd"], "/srv");
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert!(!spec.to_string().contains("CAP_SYS_ADMIN"));
    assert_eq!(spec["hostname"], "web");
    assert_eq!(spec["linux"]["cgroupsPath"], "/prod/web");
    assert_eq!(spec["linux"]["resources"]["devices"][0], json!({ "allow": false, "access": "rwm" }));
    assert!(spec["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    assert!(has_namespace(&spec, "network") && has_namespace(&spec, "pid"));
    let mounts: Vec<_> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    assert!(mounts.contains(&"/dev/shm") && mounts.contains(&"/run") && !mounts.contains(&"/sys/fs/cgroup"));
    assert_eq!(resources::size_of(&spec), crate::model::resource::Size::default());
}

#[test]
fn what_is_wanted_goes_before_what_the_image_says() {
    let spec = InstanceSpec {
        command: vec!["once".into()],
        environment: vec!["A=2".into(), "B=x=y".into()],
        ..wanted()
    };
    let size =
        SizeSpec { vcpus: Some("0.5".parse().unwrap()), memory_bytes: Some(64 << 20), ..SizeSpec::default() };
    let options = [("network", "host"), ("hostname", "h"), ("cgroup", "/a/b"), ("workdir", "/tmp")];
    let spec = built(&spec, &options, &size).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/entry", "once"]));
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "A=2", "B=x=y"]));
    assert_eq!((&spec["hostname"], &spec["process"]["cwd"]), (&json!("h"), &json!("/tmp")));
    assert!(!has_namespace(&spec, "network"));
    assert_eq!(spec["linux"]["cgroupsPath"], "/a/b");
    assert_eq!(spec["linux"]["resources"]["cpu"], json!({ "quota": 50_000, "period": 100_000 }));
    assert_eq!(spec["linux"]["resources"]["memory"], json!({ "limit": 64 << 20 }));
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
}

#[test]
fn what_containers_do_not_have_is_refused_by_name() {
    let refused = |spec: InstanceSpec, word: &str| {
        let error = check(&spec).unwrap_err();
        assert!(error.reason().contains(word), "{error}");
    };
    check(&wanted()).unwrap();
    refused(InstanceSpec { name: "a b".into(), ..wanted() }, "container's id");
    refused(InstanceSpec { networks: vec!["n".into()], ..wanted() }, "network");
    refused(InstanceSpec { disks: vec![DiskSpec::New(VolumeSpec::default())], ..wanted() }, "disks");
    refused(InstanceSpec { kernel: Some(KernelSpec::default()), ..wanted() }, "kernel");
    refused(InstanceSpec { architecture: Some("z80".into()), ..wanted() }, "processors");
    refused(InstanceSpec { environment: vec!["A".into()], ..wanted() }, "NAME=value");
    let tags = [("barograph/token".to_owned(), "x".to_owned())].into();
    refused(InstanceSpec { tags, ..wanted() }, "barograph/token");
    for (options, word) in [
        ([("nework", "host")], "no option nework"),
        ([("network", "bridge")], "host or none"),
        ([("cgroup", "/a/../b")], "begins with /"),
        ([("user", "")], "empty"),
    ] {
        let error = built(&wanted(), &options, &SizeSpec::default()).unwrap_err();
        assert!(error.reason().contains(word), "{error}");
    }
    let nothing = build("a", &wanted(), &Options::default(), &SizeSpec::default(), None, User::default());
    assert!(nothing.unwrap_err().reason().contains("command"));
}
