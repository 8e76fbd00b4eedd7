//! Files that were changed at random: the check ends, says something or is content, and never panics.

use proptest::prelude::*;

use super::check_here;

const SEED: &str = "\
name: local
settings: { queue_rows: 1000, drain: 1m, listen: none, token: \"${env:TOKEN}\" }
sources:
  host: &host { type: host, every: 5s, timeout: 2s, ignore_devices: [loop, ram] }
  same: *host
transforms:
  - { type: tag, set: { site: 'l\u{e4}b' } }
  - type: filter
    table: disk
    where: >
      device NOT LIKE 'loop%'
      AND site = '$${x}'
  - { type: downsample, every: 1m, aggregate: { utilization: max } }
sinks:
  store: { type: store, path: ./data, retention: 30d, buffer: 64MiB }
  lines: { type: stdout, format: line_protocol }
";

/// One change: characters from a place on are replaced.
fn change() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let bits = prop::sample::select(vec![
        "",
        " ",
        "\n",
        "\t",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "'",
        "\"",
        "#",
        "&a ",
        "*a",
        "*host",
        "|\n",
        "!!str ",
        "? ",
        "~",
        "${env:TOKEN}",
        "${env:NO}",
        "${",
        "}",
        "$${",
        "0",
        "-1",
        "1e999",
        "99999999999999999999",
        "type",
        "every",
        "\u{0}",
        "\u{1b}",
        "\u{2028}",
        "\u{1f600}",
        "---\n",
        "%TAG ",
        "<<: ",
    ]);
    (any::<prop::sample::Index>(), 0usize..12, bits.prop_map(str::to_owned))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_never_break_the_check(changes in prop::collection::vec(change(), 1..6)) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (index, length, new) in changes {
            let from = index.index(text.len() + 1);
            let to = (from + length).min(text.len());
            text.splice(from..to, new.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = check_here(&text) {
            let printed = faults.to_string();
            prop_assert!(faults.count() > 0 && !printed.is_empty());
            prop_assert!(!printed.contains("hunter2"), "{printed}");
            let lines = text.lines().count() + 1;
            for fault in faults.iter() {
                prop_assert!(fault.place.is_none_or(|place| place.start.line <= lines), "{fault:?}");
            }
        }
    }

    #[test]
    fn any_text_at_all_is_survived(text in "\\PC{0,200}") {
        prop_assert!(check_here(&text).is_err());
    }
}

#[test]
fn the_seed_is_good() {
    check_here(SEED).unwrap();
}
