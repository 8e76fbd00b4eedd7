//! "Did you mean": the known name nearest to a misspelt one.

/// Similarity (Jaro-Winkler, 0 to 1) from which a name is worth proposing.
const SIMILAR: f64 = 0.8;

/// The candidate most like `wanted`, if one is like it at all. Case is ignored.
pub(super) fn closest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_nearest_name_is_proposed_and_a_stranger_is_not() {
        let names = ["utilization", "utilization_max", "cores", "Steal"];
        assert_eq!(closest("utilisation", names), Some("utilization"));
        assert_eq!(closest("utilization_mx", names), Some("utilization_max"));
        assert_eq!(closest("core", names), Some("cores"));
        assert_eq!(closest("steal", names), Some("Steal"));
        assert_eq!(closest("zebra", names), None);
    }
}
