//! "Did you mean": the known word nearest to a misspelt one.

/// Likeness (1 minus edit distance over length) from which a word is worth proposing.
const SIMILAR: f64 = 0.6;

/// The candidate most like `wanted`, if one is like it at all. Case does not count, nor whether words are joined by `-`
/// or `_`.
pub(crate) fn closest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    // Nobody misspells at length, and comparing costs length times length.
    let wanted = plain(wanted.get(..wanted.len().min(64)).unwrap_or_default());
    if wanted.is_empty() {
        return None;
    }
    candidates
        .into_iter()
        .map(|word| {
            let known = plain(word);
            let likeness = strsim::normalized_damerau_levenshtein(&wanted, &known);
            // `mem` for `memory`, `drop_columns` for `drop`.
            let begins = wanted.len() >= 3 && known.starts_with(&wanted)
                || known.len() >= 3 && wanted.starts_with(&known);
            (if begins { likeness.max(SIMILAR) } else { likeness }, word)
        })
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_nearest_word_is_proposed_and_a_stranger_is_not() {
        let words = ["store", "stdout", "line_protocol", "memory"];
        assert_eq!(closest("sotre", words), Some("store"));
        assert_eq!(closest("Line-Protocol", words), Some("line_protocol"));
        assert_eq!(closest("mem", words), Some("memory"));
        assert_eq!(closest("influxdb", words), None);
        assert_eq!(closest("utilisation", ["utilization_max", "utilization"]), Some("utilization"));
        assert_eq!(closest("steal", ["Steal"]), Some("Steal"));
        assert_eq!(closest("", words), None);
        assert_eq!(closest(&"ä".repeat(100), words), None);
    }
}
