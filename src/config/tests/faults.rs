//! Bad files and exactly what is said about them.

use super::{GOOD, check_here, faults};

/// The good file with one text replaced, and its faults.
#[track_caller]
fn broken(from: &str, to: &str, expected: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(faults(&GOOD.replace(from, to)), expected, "{to}");
}

/// The good file with transforms, from line 6 on, and its faults.
#[track_caller]
fn transforms(lines: &[&str], expected: &[&str]) {
    let items: String = lines.iter().map(|line| format!("  - {{ {line} }}\n")).collect();
    assert_eq!(faults(&format!("{GOOD}transforms:\n{items}")), expected, "{lines:?}");
}

#[test]
fn all_faults_come_at_once_as_a_person_reads_them() {
    let text = "\
name: my pipeline
sources:
  host: { type: hst, every: 5s }
  other: { type: host, evry: 5s }
transforms:
  - { type: filter, table: dsk, where: \"device NOT LIKE\" }
sinks:
  store: { type: store, path: 5, retention: 30 days and a bit }
  store: { type: store }
";
    let expected = "\
error: `name`: \"my pipeline\" cannot be a name
 --> p.yaml:1:7
  |
1 | name: my pipeline
  |       ^^^^^^^^^^^
  = help: a name has 1 to 64 letters, digits, `_`, `-` or `.`, and begins with a letter or digit

error: `sources.host.type` cannot be `hst`
 --> p.yaml:3:17
  |
3 |   host: { type: hst, every: 5s }
  |                 ^^^
  = help: did you mean `host`?
  = help: allowed are `host`, `kvm`, `containerd`, `aws`

error: the key `every` is missing in `sources.other`
 --> p.yaml:4:3
  |
4 |   other: { type: host, evry: 5s }
  |   ^^^^^
  = help: `every`: Time between two collections

error: unknown key `evry` in `sources.other`
 --> p.yaml:4:24
  |
4 |   other: { type: host, evry: 5s }
  |                        ^^^^
  = help: did you mean `every`?
  = help: allowed are `type`, `every`, `timeout`, `ignore_mountpoints`, `ignore_devices`, `ignore_interfaces`

error: there is no table `dsk`
 --> p.yaml:6:28
  |
6 |   - { type: filter, table: dsk, where: \"device NOT LIKE\" }
  |                            ^^^
  = help: did you mean `disk`?
  = help: known are `checks`, `cpu`, `credit`, `disk`, `events`, `filesystem`, `hugepages`, `job`, `memory`, `network`, `pressure`, `status`, `storage`

error: `sinks.store.path` must be a text, not a number
 --> p.yaml:8:31
  |
8 |   store: { type: store, path: 5, retention: 30 days and a bit }
  |                               ^
  = help: put it in quotes: `\"5\"`

error: `sinks.store.retention`: \"30 days and a bit\" is not a duration
 --> p.yaml:8:45
  |
8 |   store: { type: store, path: 5, retention: 30 days and a bit }
  |                                             ^^^^^^^^^^^^^^^^^
  = help: write for example 500ms, 10s, 5m, 12h or 30d

error: the key `store` stands twice
 --> p.yaml:9:3
  |
9 |   store: { type: store }
  |   ^^^^^
 ::: p.yaml:8:3: first here
  |
8 |   store: { type: store, path: 5, retention: 30 days and a bit }
  |   -----
  = help: take one away, or give it another name
";
    assert_eq!(check_here(text).unwrap_err().to_string(), expected);
}

#[test]
fn keys() {
    broken("name: local\n", "", &["1:1 the key `name` is missing"]);
    broken("name:", "nmae: x\nname:", &["1:1 unknown key `nmae`"]);
    broken("type: host, ", "", &["3:3 the key `type` is missing in `sources.host`"]);
    broken("type: host", "typ: host", &["3:3 the key `type` is missing in `sources.host`"]);
    broken("type: host", "type: host, uri: x", &["3:23 unknown key `uri` in `sources.host`"]);
    broken("type: host", "type: host, type: host", &["3:23 the key `type` stands twice"]);
    broken("type: stdout", "type: stdout, path: x", &["5:24 unknown key `path` in `sinks.out`"]);
    broken("  host:", "  a/b:", &["3:3 `a/b` cannot be a name in `sources`"]);
    broken("  host:", "  \"\":", &["3:3 `` cannot be a name in `sources`"]);
}

#[test]
fn shapes() {
    broken(
        "{ type: host, every: 5s }",
        "",
        &["3:3 `sources.host` must be a mapping with a `type`, not nothing"],
    );
    broken(
        "{ type: host, every: 5s }",
        "host",
        &["3:9 `sources.host` must be a mapping with a `type`, not a text"],
    );
    broken("\n  host: { type: host, every: 5s }", " {}", &["2:1 `sources` is empty"]);
    broken("\n  host: { type: host, every: 5s }", " [a]", &["2:10 `sources` must be a mapping, not a list"]);
    broken("name: local", "name: 7", &["1:7 `name` must be a text, not a number"]);
    broken("name: local", "name: [a]", &["1:7 `name` must be a text, not a list"]);
    broken("type: host", "type: 3", &["3:17 `sources.host.type` must be a word, not a number"]);
    broken("type: host", "type: [host]", &["3:17 `sources.host.type` must be a word, not a list"]);
    broken(
        "5s",
        "5s, ignore_devices: loop",
        &["3:50 `sources.host.ignore_devices` must be a list, not a text"],
    );
    broken(
        "5s",
        "5s, ignore_devices: [1]",
        &["3:51 `sources.host.ignore_devices[0]` must be a text, not a number"],
    );
    broken("5s", "5s, timeout: ~", &[]);
    broken("type: stdout", "type: stdout, format: xml", &["5:32 `sinks.out.format` cannot be `xml`"]);
    broken("type: stdout", "type: influx", &["5:16 `sinks.out.type` cannot be `influx`"]);
    assert_eq!(faults(""), ["1:1 the file must be a mapping, not nothing"]);
    assert_eq!(faults("- a"), ["1:1 the file must be a mapping, not a list"]);
}

#[test]
fn values() {
    broken("5s", "5", &["3:30 `sources.host.every` must be a duration, not a number"]);
    broken("5s", "5 parsecs", &["3:30 `sources.host.every`: \"5 parsecs\" is not a duration"]);
    broken("5s", "0s", &["3:30 `every` must be from 100ms to 31 days"]);
    broken("5s", "1year", &["3:30 `every` must be from 100ms to 31 days"]);
    broken(
        "5s",
        "5s, timeout: 6s",
        &["3:43 `timeout` is longer than `every`: a collection would still run when the next is due"],
    );
    broken("5s", "5s, timeout: 0s", &["3:43 `timeout` must be longer than nothing"]);
    broken("5s", "5s, ignore_devices: [loop, '']", &["3:50 an empty prefix would leave out everything"]);
    broken(
        "name: local",
        "name: local\nsettings: { queue_rows: 0, batch_rows: -1, drain: 5m }",
        &[
            "2:25 `settings.queue_rows` must be from 1 to 100000000, not `0`",
            "2:40 `settings.batch_rows` must be from 1 to 10000000, not `-1`",
        ],
    );
    broken(
        "name: local",
        "name: local\nsettings: { listen: localhost, jitter: 200years }",
        &["2:21 `settings.listen`: \"localhost\" is not an address"],
    );
    broken(
        "name: local",
        "name: local\nsettings: { jitter: 200years }",
        &["2:21 `jitter` must be at most 100 years"],
    );
}

#[test]
fn guests_are_not_waited_for_longer_than_a_collection() {
    broken("type: host", "type: kvm, deadline: 5s", &[]);
    broken(
        "type: host",
        "type: kvm, deadline: 20s",
        &[
            "3:32 `deadline` is longer than `every`: a guest that does not answer would hold up the next collection",
        ],
    );
}

#[test]
fn metrics_of_a_source_must_fit_tables_and_groups() {
    let metric = |text: &str| format!("type: kvm, metrics: [{text}]");
    broken(
        "type: host",
        &metric("{ table: perf, fields: [{ native: perf.cmt, field: a, convert: value }] }"),
        &[],
    );
    broken(
        "type: host",
        &metric("{ table: cpu, fields: [{ native: pref.cmt, field: wait, convert: value }] }"),
        &["3:65 `sources.host.metrics[0].fields[0].native`: there is no group of figures `pref`"],
    );
    broken(
        "type: host",
        &metric("{ table: cpu, each: vcpu, fields: [{ native: halted, field: wate, convert: rate }] }"),
        &[
            "3:52 `sources.host.metrics[0].each`: `each` makes many rows",
            "3:92 `sources.host.metrics[0].fields[0].field`: the table `cpu` has no field `wate`",
        ],
    );
    broken("type: host", "type: kvm, uri: \"qemu+shs://h/system\"", &["3:27 libvirt has no transport `shs`"]);
}

#[test]
fn a_table_that_a_source_makes_is_known_to_transforms() {
    let own = GOOD.replace(
        "type: host",
        "type: kvm, metrics: [{ table: faults, fields: [{ native: perf.cmt, field: a, convert: value }] }]",
    );
    let with = |transform: &str| faults(&format!("{own}transforms:\n  - {{ {transform} }}\n"));
    assert_eq!(with("type: filter, table: faults, where: \"a > 1\""), [""; 0]);
    let faults = with("type: drop, table: faults, columns: [b]");
    assert!(faults.len() == 1 && faults[0].contains("no column `b` in `faults`"), "{faults:?}");
}

#[test]
fn containers_are_in_namespaces_that_can_be() {
    broken("type: host", "type: containerd, namespaces: [k8s.io]", &[]);
    broken(
        "type: host",
        "type: containerd, namespaces: [\"a b\"]",
        &[
            "3:41 \"a b\" cannot be a namespace: a namespace is letters and digits, with single `.`, `_` or `-` \
             between them",
        ],
    );
    broken(
        "type: host",
        "type: containerd, deadline: 20s",
        &[
            "3:39 `deadline` is longer than `every`: a container that does not answer would hold up the next collection",
        ],
    );
}

#[test]
fn names_that_nobody_could_write() {
    for (name, reason) in [
        ("\"a\\nb\"", "this is no name for a tag"),
        ("' '", "this is no name for a tag"),
        ("resource_id", "it tells the resources apart, and all would become one"),
    ] {
        let text = format!("{GOOD}transforms:\n  - {{ type: tag, set: {{ {name}: x }} }}\n");
        let faults = faults(&text);
        assert!(faults.len() == 1 && faults[0].contains(reason), "{faults:?}");
    }
}

#[test]
fn stores() {
    let store =
        |text: &str, expected: &[&str]| broken("type: stdout", &format!("type: store, {text}"), expected);
    let hours = "`retention` must be an hour or more: whole hours and days are dropped";
    store("retention: 59m", &[&format!("5:34 {hours}")]);
    store("flush: 1ms", &["5:30 `flush` must be 100ms or more: rows are durable before"]);
    store("buffer: 10", &["5:31 `buffer` must be from 1MiB to 1GiB"]);
    store("buffer: 100GiB", &["5:31 `buffer` must be from 1MiB to 1GiB"]);
    store("buffer: lots", &["5:31 `sinks.out.buffer`: \"lots\" is not a size"]);
    store("path: ''", &["5:29 the path of the store is empty"]);
    store("retention: 1d }\n  more: { type: store, path: data/.", &["6:30 two sinks cannot share a folder"]);
    store("path: a }\n  more: { type: store, path: b", &[]);
}

#[test]
fn tables_and_sql() {
    transforms(&["type: drop, table: cpus, columns: [steal]"], &["7:26 there is no table `cpus`"]);
    transforms(
        &["type: sql, table: cpu, query: \"SELEC 1\""],
        &[
            "7:37 `transforms[0].query`: cannot run the query of a transform over cpu: line 1, column 1: Expected: an SQL \
             statement, found: SELEC",
        ],
    );
    transforms(
        &[
            "type: sql, table: cpu, into: busy, query: \"SELECT * FROM cpu\"",
            "type: keep, table: busy, columns: [cores]",
        ],
        &[],
    );
    transforms(
        &[
            "type: keep, table: busy, columns: [cores]",
            "type: sql, table: cpu, into: busy, query: \"SELECT * FROM cpu\"",
        ],
        &["7:26 there is no table `busy`"],
    );
    transforms(
        &[
            "type: sql, table: cpus, into: busy, query: \"SELECT * FROM cpus\"",
            "type: drop, table: cpus, columns: [steal]",
        ],
        &["7:25 there is no table `cpus`", "8:26 there is no table `cpus`"],
    );
    transforms(
        &["type: downsample, every: 0s"],
        &[
            "7:32 `transforms[0].every`: cannot downsample: `every` must be longer than nothing and shorter than 292 years",
        ],
    );
    transforms(
        &["type: keep, columns: [cores, steal, cores]"],
        &["7:43 `cores` stands twice in `transforms[0].columns`"],
    );
    transforms(&["type: filtr, where: a"], &["7:13 `transforms[0].type` cannot be `filtr`"]);
    transforms(
        &["type: downsample, every: 1m, aggregate: { utilization: avg }"],
        &["7:62 `transforms[0].aggregate.utilization` cannot be `avg`"],
    );
    transforms(
        &["type: tag, set: { rack: 12 }"],
        &["7:31 `transforms[0].set.rack` must be a text, not a number"],
    );
}

#[test]
fn columns_that_are_nowhere() {
    transforms(
        &["type: drop, table: cpu, columns: [steal, steel]"],
        &["7:48 there is no column `steel` in `cpu`"],
    );
    transforms(
        &["type: keep, columns: [used_bytes, usedbytes]"],
        &["7:41 there is no column `usedbytes` in any table"],
    );
    transforms(
        &["type: downsample, every: 1m, aggregate: { utilzation: max }"],
        &["7:49 there is no column `utilzation` in any table"],
    );
    transforms(&["type: rename, table: disk, columns: { a: b }"], &["7:45 there is no column `a` in `disk`"]);
    transforms(
        &["type: drop, columns: []"],
        &["7:28 `transforms[0].columns` is empty: nothing would be done"],
    );
    transforms(&["type: tag, set: {}"], &["7:23 `transforms[0].set` is empty: nothing would be done"]);
    // What earlier transforms added or changed is there, and a cloud may add tags.
    transforms(&["type: tag, set: { site: lab }", "type: drop, columns: [site, tag_team]"], &[]);
    transforms(
        &["type: rename, table: cpu, columns: { steal: s }", "type: drop, table: cpu, columns: [s]"],
        &[],
    );
    transforms(
        &["type: tag, table: disk, set: { a: b }", "type: drop, table: cpu, columns: [a]"],
        &["8:41 there is no column `a` in `cpu`"],
    );
}

#[test]
fn sql_is_not_repeated_and_what_follows_is_help() {
    let text = format!(
        "{GOOD}transforms:\n  - type: filter\n    table: disk\n    where: |\n      utilisation\n      > 0.5\n"
    );
    let faults = check_here(&text).unwrap_err();
    let fault = faults.iter().next().unwrap();
    assert!(
        fault.message.ends_with("cannot filter rows of disk: there is no column utilisation in disk"),
        "{faults}"
    );
    assert_eq!(fault.help, ["did you mean utilization?"], "{faults}");
}

#[test]
fn conditions_over_what_rows_do_not_have() {
    let filter = "`transforms[0].where`: cannot filter rows of";
    transforms(
        &["type: filter, table: cpu, where: \"utilization > 'abc'\""],
        &[&format!("7:40 {filter} cpu: utilization is a number, and 'abc' cannot be read as one")],
    );
    transforms(
        &[
            "type: filter, table: cpu, where: \"core < 4\"",
            "type: filter, table: cpu, where: \"time > '2026-01-01T00:00:00Z'\"",
        ],
        &[&format!("7:40 {filter} cpu: core is a text and 4 is a number, and they cannot be compared")],
    );
    // Without `table` the condition meets the rows of every table.
    transforms(
        &["type: filter, where: \"device NOT LIKE 'loop%'\""],
        &[&format!("7:28 {filter} cpu: there is no column device in cpu")],
    );
    transforms(&["type: keep, columns: [utilization]", "type: filter, where: \"utilization > 0.5\""], &[]);
    transforms(&["type: filter, where: \"observer = 'host'\""], &[]);
    // Columns are followed through what changes them.
    transforms(
        &[
            "type: rename, table: cpu, columns: { utilization: busy }",
            "type: filter, table: cpu, where: \"busy > 'x'\"",
            "type: filter, table: cpu, where: \"utilization > 1\"",
        ],
        &[
            "8:40 `transforms[1].where`: cannot filter rows of cpu: busy is a number, and 'x' cannot be read as one",
            "9:40 `transforms[2].where`: cannot filter rows of cpu: there is no column utilization in cpu",
        ],
    );
    transforms(
        &[
            "type: drop, table: disk, columns: [device]",
            "type: sql, table: disk, query: \"SELECT *, device AS d FROM disk\"",
        ],
        &[
            "8:38 `transforms[1].query`: cannot run the query of a transform over disk: there is no column device in disk",
        ],
    );
}

#[test]
fn names_that_are_taken() {
    transforms(
        &["type: tag, table: cpu, set: { site: lab, utilization: high }"],
        &["7:48 `utilization` is a field of `cpu`, and cannot be a tag"],
    );
    transforms(
        &["type: tag, set: { mountpoint: x, used_bytes: y }"],
        &["7:40 `used_bytes` is a field of `filesystem`, and cannot be a tag"],
    );
    transforms(
        &["type: tag, table: disk, set: { steal: x, device: y }", "type: drop, table: cpu, columns: [steal]"],
        &[],
    );
    // What a table declares keeps its type where it was dropped.
    transforms(
        &["type: drop, table: cpu, columns: [steal]", "type: tag, table: cpu, set: { steal: x }"],
        &["8:37 `steal` is a field of `cpu`, and cannot be a tag"],
    );
    transforms(
        &["type: rename, table: cpu, columns: { core: utilization, utilization: core }"],
        &[
            "7:50 `utilization` is a field of type float of `cpu`, and `core` is a tag",
            "7:76 `core` is a tag of `cpu`, and `utilization` is a field of type float",
        ],
    );
    transforms(
        &["type: rename, table: memory, columns: { used_bytes: limit_bytes }"],
        &["7:59 `memory` has a column `limit_bytes` already"],
    );
    transforms(
        &["type: rename, table: cpu, columns: { core: observer }"],
        &["7:50 `cpu` has a column `observer` already"],
    );
    transforms(&["type: rename, columns: { core: region }"], &["7:38 `cpu` has a column `region` already"]);
    transforms(
        &[
            "type: tag, set: { site: lab }",
            "type: rename, table: cpu, columns: { core: site, tag_team: zone }",
        ],
        &["8:50 `cpu` has a column `site` already", "8:66 `cpu` has a column `zone` already"],
    );
    transforms(
        &[
            "type: rename, table: cpu, columns: { user: system, system: user }",
            "type: rename, table: cpu, columns: { user: users, steal: stolen }",
            "type: rename, table: cpu, columns: { system: user, iowait: stolen }",
        ],
        &["9:66 `cpu` has a column `stolen` already"],
    );
}

/// What is advised works: it is tried in `runs`.
#[test]
fn names_that_become_free_are_told_from_those_that_never_do() {
    let helps = |lines: &[&str]| -> Vec<String> {
        let items: String = lines.iter().map(|line| format!("  - {{ {line} }}\n")).collect();
        let faults = check_here(&format!("{GOOD}transforms:\n{items}")).unwrap_err();
        faults.iter().flat_map(|fault| fault.help.clone()).collect()
    };
    let fixed = "choose another name: what a table declares keeps its type, even where it was dropped";
    assert_eq!(helps(&["type: tag, table: cpu, set: { steal: x }"]), [fixed]);
    assert_eq!(helps(&["type: rename, table: cpu, columns: { utilization: core }"]), [fixed]);
    assert_eq!(
        helps(&["type: rename, columns: { steal: stolen }", "type: tag, set: { stolen: x }"]),
        ["choose another name, or `rename` or `drop` the field before"]
    );
    assert_eq!(
        helps(&["type: rename, table: cpu, columns: { iowait: wait }"]),
        ["choose another name, or `rename` or `drop` that column before, even if no source fills it"]
    );
    assert_eq!(helps(&["type: rename, columns: { core: observer }"]), ["choose another name"]);
    assert_eq!(
        helps(&[
            "type: sql, table: cpu, into: busy, query: \"SELECT * FROM cpu\"",
            "type: drop, table: cpu, columns: [steal]"
        ]),
        ["an earlier transform leaves no row of `cpu`"]
    );
}

#[test]
fn only_fields_are_aggregated() {
    transforms(
        &[
            "type: downsample, table: disk, every: 1m, aggregate: { device: last, time: max, utilization: max }",
        ],
        &[
            "7:62 `device` is a tag, and only fields are aggregated",
            "7:76 `time` is the time, and only fields are aggregated",
        ],
    );
    transforms(
        &[
            "type: tag, set: { site: lab }",
            "type: downsample, every: 1m, aggregate: { site: last, load: max }",
        ],
        &[
            "8:49 `site` is a tag, and only fields are aggregated",
            "8:61 there is no column `load` in any table",
        ],
    );
}

#[test]
fn an_unknown_type_does_not_hide_what_all_types_have() {
    broken(
        "type: host, every: 5s",
        "type: hst, every: nonsense, timeout: [1]",
        &[
            "3:17 `sources.host.type` cannot be `hst`",
            "3:29 `sources.host.every`: \"nonsense\" is not a duration",
            "3:48 `sources.host.timeout` must be a duration, not a list",
        ],
    );
    broken(
        "type: host, every: 5s",
        "every: 5s, timeout: 6s",
        &[
            "3:3 the key `type` is missing in `sources.host`",
            "3:31 `timeout` is longer than `every`: a collection would still run when the next is due",
        ],
    );
    broken(
        "type: host, every: 5s",
        "type: hst, uri: x",
        &["3:3 the key `every` is missing in `sources.host`", "3:17 `sources.host.type` cannot be `hst`"],
    );
    broken(
        "type: host, every: 5s",
        "type: host, evry: 5s, every: 1ms",
        &["3:23 unknown key `evry` in `sources.host`", "3:40 `every` must be from 100ms to 31 days"],
    );
}

/// What transforms say about themselves stands at the word that they speak of.
#[test]
fn transforms_that_refuse_their_configuration() {
    let at = |line: &str| -> String {
        let found = faults(&format!("{GOOD}transforms:\n  - {{ {line} }}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        found.concat().split(':').take(3).collect::<Vec<_>>().join(":")
    };
    assert_eq!(
        at("type: drop, columns: [steal, time]"),
        "7:36 `transforms[0].columns`: cannot drop column time"
    );
    assert_eq!(at("type: tag, set: { a: b, time: now }"), "7:31 `transforms[0].set`: cannot set tag time");
    assert_eq!(
        at("type: rename, columns: { observer: o }"),
        "7:32 `transforms[0].columns`: cannot rename column observer"
    );
    assert!(
        at("type: filter, table: cpu, where: \"utlization > 1\"").starts_with("7:40 `transforms[0].where`")
    );
    assert!(at("type: filter, where: \"a >\"").starts_with("7:28 `transforms[0].where`"));
}

#[test]
fn yaml_itself() {
    assert_eq!(faults("name: [a\nb: c").len(), 1);
    assert!(faults("name: [a\nb: c")[0].contains("this is not YAML"));
    assert!(
        faults("a: 1\n---\nb: 2")[0].starts_with("2:1 this is not YAML: only one document"),
        "{:?}",
        faults("a: 1\n---\nb: 2")
    );
    let anchored =
        "name: a\nsources:\n  a: &a { type: host, evry: 5s }\n  b: *a\nsinks: { out: { type: stdout } }\n";
    let expected = [
        "3:3 the key `every` is missing in `sources.a`",
        "3:23 unknown key `evry` in `sources.a`",
        "3:23 unknown key `evry` in `sources.b`",
        "4:3 the key `every` is missing in `sources.b`",
    ];
    assert_eq!(faults(anchored), expected);
}

#[test]
fn what_was_probably_meant_is_said() {
    let helps = |from: &str, to: &str| -> Vec<String> {
        let faults = check_here(&GOOD.replace(from, to)).unwrap_err();
        faults.iter().flat_map(|fault| fault.help.clone()).collect()
    };
    assert_eq!(
        helps("type: stdout", "type: stdot"),
        ["did you mean `stdout`?", "allowed are `store`, `influxdb`, `stdout`"]
    );
    assert_eq!(helps("5s", "5"), ["write the unit, as in `5s`", "for example `10s`"]);
    assert_eq!(helps("name: local", "name: true"), ["put it in quotes: `\"true\"`"]);
    assert_eq!(helps("type: host", "kind: host")[0], "did you mean `type` by `kind`?");
}
