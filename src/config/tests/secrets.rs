//! Secrets reach the configuration and nothing else.

use std::collections::BTreeMap;

use super::{GOOD, check_here, faults};
use crate::config::{TransformConfig, check};

const SECRET: &str = "hunter2";

#[test]
fn references_are_replaced_in_every_text() {
    let text = format!(
        "{}transforms:\n  - {{ type: tag, set: {{ site: \"lab-${{env:TOKEN}}\", raw: \"$${{env:TOKEN}}\" }} }}\n",
        GOOD.replace("5s", "'${env:EVERY}'")
    );
    let pipeline = check_here(&text).unwrap();
    assert_eq!(pipeline.sources.get("host").unwrap().every, crate::model::Span::seconds(7));
    let TransformConfig::Tag(tag) = &pipeline.transforms[0] else { panic!() };
    let expected = [("site", "lab-hunter2"), ("raw", "${env:TOKEN}")];
    assert_eq!(tag.set, BTreeMap::from(expected.map(|(name, value)| (name.into(), value.into()))));
}

#[test]
fn files_are_found_beside_the_pipeline_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let text = GOOD.replace("name: local", "name: local\nsettings: { token: \"${file:token}\" }");
    let file = folder.path().join("p.yaml").display().to_string();
    let pipeline = check(&text, &file).unwrap();
    assert_eq!(pipeline.settings.token.map(|token| token.expose().to_owned()).as_deref(), Some(SECRET));
}

#[test]
fn what_cannot_be_followed_is_told_at_its_place_with_all_else() {
    let text = "\
name: local
settings:
  token: \"${env:NOPE} and ${file:/no/where}\"
  drian: 5s
sources:
  host: { type: host, every: \"${EVERY}\" }
sinks:
  out: { type: stdout, format: 'a ${env:' }
";
    let expected = [
        "3:11 `${env:NOPE}`: the environment variable NOPE is not set",
        "3:27 `${file:/no/where}`: /no/where cannot be read: there is no such file",
        "4:3 unknown key `drian` in `settings`",
        "6:31 `${EVERY}`: only `env:` and `file:` can stand here",
        "8:35 `${`: `${` without `}`",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn no_message_and_no_print_shows_a_secret() {
    let places = [
        ("name: local", "name: ${env:TOKEN}"),
        ("name: local", "name: local\nsettings: { listen: \"${env:TOKEN}\" }"),
        ("name: local", "name: local\nsettings: { drain: \"${env:TOKEN}\" }"),
        ("name: local", "name: local\nsettings: { queue_rows: \"${env:TOKEN}\" }"),
        ("type: host", "type: \"${env:TOKEN}\""),
        ("5s", "\"${env:TOKEN}\""),
        ("5s", "5s, ignore_devices: \"${env:TOKEN}\""),
        ("type: stdout", "type: stdout, format: \"${env:TOKEN}\""),
        ("type: stdout", "type: store, buffer: \"${env:TOKEN}\""),
        ("type: stdout", "type: store, path: \"${env:TOKEN}\" }\n  b: { type: store, path: \"${env:TOKEN}\""),
        ("sinks:", "transforms: [{ type: filter, where: \"${env:TOKEN} >\" }]\nsinks:"),
        ("sinks:", "transforms: [{ type: filter, table: cpu, where: \"${env:TOKEN} > 1\" }]\nsinks:"),
        ("sinks:", "transforms: [{ type: sql, table: cpu, query: \"${env:TOKEN}\" }]\nsinks:"),
        (
            "sinks:",
            "transforms: [{ type: sql, table: cpu, query: \"SELECT ${env:TOKEN} FROM cpu\" }]\nsinks:",
        ),
        ("sinks:", "transforms: [{ type: keep, table: \"${env:TOKEN}\", columns: [a] }]\nsinks:"),
        (
            "sinks:",
            "transforms: [{ type: sql, table: cpu, query: \"SELECT * FROM cpu\", into: \"${env:TOKEN}\" }, { type: keep, table: x, columns: [a] }]\nsinks:",
        ),
        (
            "sinks:",
            "transforms: [{ type: rename, columns: { a: \"${env:TOKEN}\", b: \"${env:TOKEN}\" } }]\nsinks:",
        ),
    ];
    for (from, to) in places {
        let text = GOOD.replace(from, to);
        let faults = check_here(&text).expect_err(to);
        let printed = format!("{faults}\n{faults:?}\n{}", faults.to_json());
        assert!(!printed.contains(SECRET), "{to}:\n{printed}");
        assert!(printed.contains("${env:TOKEN}"), "the text of the file is quoted:\n{printed}");
    }
}

#[test]
fn a_good_configuration_prints_without_its_values() {
    let text = format!(
        "{}transforms:\n  - {{ type: tag, set: {{ a: \"${{env:TOKEN}}\" }} }}\n  - {{ type: filter, where: \"region = '${{env:TOKEN}}'\" }}\n",
        GOOD.replace("name: local", "name: local\nsettings: { token: \"${env:TOKEN}\" }")
            .replace("5s", "5s, ignore_devices: [\"${env:TOKEN}\"]")
            .replace("type: stdout", "type: store, path: data")
    );
    let pipeline = check_here(&text).unwrap();
    let printed = format!("{pipeline:?} {pipeline:#?}");
    assert!(!printed.contains(SECRET), "{printed}");
    assert!(printed.contains(r#"{"host": host}"#), "{printed}");
}

#[test]
fn a_secret_written_out_is_not_quoted() {
    let text = GOOD.replace("name: local", "name: local\nsettings: { token: hunter2, x: 1 }\n");
    let printed = check_here(&text).unwrap_err().to_string();
    assert!(printed.contains("settings: { token: *******, x: 1 }") && !printed.contains(SECRET), "{printed}");
    let number = check_here(&text.replace(SECRET, "1234567")).unwrap_err().to_string();
    assert!(number.contains("must be a text") && !number.contains("1234567"), "{number}");
}

/// What is shown in logs, rows and answers must be written out, so that nobody takes it for hidden.
#[test]
fn what_is_shown_cannot_be_a_secret() {
    let kvm = |uri: &str| faults(&GOOD.replace("type: host", &format!("type: kvm, uri: \"{uri}\"")));
    let store = |path: &str| faults(&GOOD.replace("type: stdout", &format!("type: store, path: \"{path}\"")));
    let uri = "the URI is shown in logs and rows, and a secret must not be";
    for faults in [kvm("qemu+tls://${env:TOKEN}/system"), kvm("qemu+tcp://u:hunter2@host/system")] {
        assert!(faults.len() == 1 && faults[0].ends_with(uri), "{faults:?}");
    }
    assert_eq!(kvm("qemu+ssh://user@host:22/system?socket=/a@b:c"), [""; 0]);
    let faults = store("./${env:TOKEN}");
    assert!(faults.len() == 1 && faults[0].ends_with("the path is shown in logs, and a secret must not be"));
    let text = GOOD.replace("type: host", "type: kvm, uri: \"qemu+tcp://u:hunter2@host/system\"");
    let shown = check_here(&text).unwrap_err().to_string();
    assert!(!shown.contains(SECRET), "{shown}");
}
