use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// A tar file of these files.
fn archive(folder: &Path, files: &[(String, Vec<u8>)], links: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("image.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let header = |size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        header
    };
    for (name, bytes) in files {
        tar.append_data(&mut header(bytes.len()), format!("./{name}"), bytes.as_slice()).unwrap();
    }
    for (name, target) in links {
        let mut header = header(0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, name, target).unwrap();
    }
    tar.into_inner().unwrap().flush().unwrap();
    path
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn part(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn layout(annotations: Value) -> Vec<(String, Vec<u8>)> {
    let (layer, config) = (b"a layer".to_vec(), b"{}".to_vec());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part("application/vnd.oci.image.config.v1+json", &config),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = part("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = annotations;
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    let blob = |bytes: Vec<u8>| (blob_file(&digest(&bytes)), bytes);
    vec![("index.json".into(), index.to_string().into_bytes()), blob(manifest), blob(config), blob(layer)]
}

#[test]
fn a_layout_brings_its_blobs_in_order_with_what_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let named = json!({ "io.containerd.image.name": "a.b/c:1", "org.opencontainers.image.ref.name": "1" });
    let contents = read(&archive(folder.path(), &layout(named), &[])).unwrap();
    assert_eq!(contents.images[0].name.as_deref(), Some("a.b/c:1"));
    let digests: Vec<_> = contents.blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(digests, [digest(b"{}"), digest(b"a layer"), contents.images[0].digest.clone()]);
    let (labelled, labels) = &contents.labels[0];
    assert_eq!(labelled, &contents.images[0].digest);
    assert_eq!(labels["containerd.io/gc.ref.content.config"], digest(b"{}"));
    assert_eq!(labels["containerd.io/gc.ref.content.l.0"], digest(b"a layer"));
    let short = json!({ "org.opencontainers.image.ref.name": "one" });
    let contents = read(&archive(folder.path(), &layout(short), &[])).unwrap();
    assert_eq!(contents.images[0].name.as_deref(), Some("one"));
}

#[test]
fn what_is_damaged_or_missing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |files: &[(String, Vec<u8>)]| {
        let error = read(&archive(folder.path(), files, &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.reason().to_owned()
    };
    let whole = layout(json!({}));
    let mut damaged = whole.clone();
    damaged[3].1 = b"A LAYER".to_vec();
    assert!(refused(&damaged).contains("damaged"));
    assert!(refused(&whole[..3]).contains("missing"));
    assert!(refused(&[]).contains("no images"));
    assert!(refused(&[("index.json".into(), b"{".to_vec())]).contains("index.json is wrong"));
    let path = folder.path().join("x.tar.gz");
    std::fs::write(&path, [0x1F, 0x8B, 8, 0]).unwrap();
    assert!(read(&path).unwrap_err().reason().contains("gunzip"));
    std::fs::write(&path, vec![b'x'; 2000]).unwrap();
    assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(read(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_docker_saves_gets_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let saved = json!([{ "Config": "c.json", "RepoTags": ["busybox:1", "a/b"], "Layers": ["1/layer.tar", "2/layer.tar"] }]);
    let files = [
        ("manifest.json".to_owned(), saved.to_string().into_bytes()),
        ("c.json".to_owned(), b"{}".to_vec()),
        ("1/layer.tar".to_owned(), b"one".to_vec()),
    ];
    // A layer that is there twice is a link to the first.
    let contents = read(&archive(folder.path(), &files, &[("2/layer.tar", "../1/layer.tar")])).unwrap();
    let names: Vec<_> = contents.images.iter().filter_map(|image| image.name.as_deref()).collect();
    assert_eq!(names, ["docker.io/library/busybox:1", "docker.io/a/b:latest"]);
    let manifest = contents.blobs.iter().find(|blob| blob.digest == contents.images[0].digest).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    assert_eq!(manifest["layers"][1]["digest"], digest(b"one"));
    assert_eq!(manifest["layers"][0]["mediaType"], DOCKER_LAYER);
    assert_eq!(contents.blobs.len(), 3, "each once");
}

#[test]
fn short_names_are_written_in_full() {
    for (short, full) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("a/b:2", "docker.io/a/b:2"),
        ("rig.local/busybox:1", "rig.local/busybox:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
    ] {
        assert_eq!(normalized(short), full);
    }
    assert_eq!(plain(Path::new("./a/../b/c")), "b/c");
    assert_eq!(plain(Path::new("/../../x")), "x");
}
