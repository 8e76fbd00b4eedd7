//! What is said about sinks for InfluxDB.

use super::{GOOD, check_here, faults};
use crate::config::SinkConfig;
use crate::model::Secret;

fn influxdb(keys: &str) -> Vec<String> {
    faults(&GOOD.replace("type: stdout", &format!("type: influxdb, {keys}")))
}

#[test]
fn a_server_of_each_version_is_good() {
    for keys in [
        "url: 'http://a:8086', database: m",
        "url: 'http://a:8086', version: v1, database: m, retention_policy: week, username: u, password: '${env:TOKEN}'",
        "url: 'https://a/influx', org: lab, bucket: m, token: '${env:TOKEN}', create: true, compress: false",
        "url: 'https://a', version: v3, database: m, token: '${env:TOKEN}', batch: { rows: 100, bytes: 1MiB }",
        "url: 'https://a', database: m, ca_file: ca.pem, proxy: 'http://u:p@proxy', timeout: 1m, connect_timeout: 1s",
    ] {
        assert_eq!(influxdb(keys), [""; 0], "{keys}");
    }
    let text = GOOD
        .replace("type: stdout", "type: influxdb, url: 'http://a', org: o, bucket: b, token: '${env:TOKEN}'");
    let pipeline = check_here(&text).unwrap();
    let Some(SinkConfig::Influxdb(config)) = pipeline.sinks.get("out") else { panic!("{pipeline:?}") };
    assert_eq!(config.token.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(!format!("{pipeline:?} {config:?}").contains("hunter2"));
}

#[test]
fn what_does_not_fit_together_is_told_at_its_key() {
    for (keys, expected) in [
        ("database: m", &["5:3 the key `url` is missing in `sinks.out`"][..]),
        ("url: 'http://a'", &["5:3 nothing says where rows go"]),
        ("url: 'http://a', database: ''", &["5:53 `database` is empty"]),
        ("url: 'http://a', version: v4, database: m", &["5:52 `sinks.out.version` cannot be `v4`"]),
        ("url: 'http://a', version: v1, database: m, token: t", &["5:76 `version: v1` has no `token`"]),
        ("url: 'http://a', version: v3", &["5:3 `version: v3` needs the key `database`"]),
        ("url: 'a:8086', database: m", &["5:31 the URL must begin with http:// or https://"]),
        ("url: 'http://a', database: m, timeout: 0s", &["5:65 `timeout` must be longer than nothing"]),
        (
            "url: 'http://a', database: m, batch: { bytes: 1B }",
            &["5:63 `batch.bytes` must be from 1KiB to 100MiB"],
        ),
        ("url: 'http://a', database: m, user_agent: ''", &["5:68 `user_agent` must be one line of text"]),
        ("url: 'http://a', database: m, ca_file: ''", &["5:65 `ca_file` is empty"]),
        ("url: 'http://a', database: m, precision: s", &["5:56 unknown key `precision` in `sinks.out`"]),
    ] {
        assert_eq!(influxdb(keys), expected, "{keys}");
    }
    assert_eq!(influxdb("url: 'http://a', database: m, batch: { rows: 0 }").len(), 1);
}

#[test]
fn credentials_in_a_url_are_refused_and_not_quoted() {
    for url in ["http://user:hunter2@a:8086", "http://${env:TOKEN}@a", "${env:TOKEN}"] {
        let text = GOOD.replace("type: stdout", &format!("type: influxdb, database: m, url: \"{url}\""));
        let printed = check_here(&text).unwrap_err();
        assert_eq!(printed.count(), 1, "{printed}");
        assert!(!format!("{printed} {}", printed.to_json()).contains("hunter2"), "{printed}");
    }
}

#[test]
fn secrets_in_a_url_or_under_a_misspelled_key_are_not_quoted() {
    for keys in [
        "url: 'http://a/?u=bob&p=s3cr3t', database: m",
        "url: 'http://bob:s3cr3t@a', database: m",
        "url: 'http://a', org: o, bucket: b, tokn: s3cr3t",
        "url: 'http://a', database: m, username: u, pasword: s3cr3t",
        "url: 'http://a', database: m, proxy: 's3cr3t://h'",
    ] {
        let text = GOOD.replace("type: stdout", &format!("type: influxdb, {keys}"));
        let told = check_here(&text).unwrap_err().to_string();
        assert!(!told.contains("s3cr3t"), "{keys}:\n{told}");
    }
}
