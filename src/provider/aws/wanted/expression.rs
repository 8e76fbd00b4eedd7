//! What can be told of metric math without asking CloudWatch, which refuses a whole request for one bad expression.

use std::collections::BTreeSet;

use crate::suggest::closest;

/// Functions that make several series, or that find metrics by themselves: among those of everybody else in the request.
const OF_MANY: [&str; 4] = ["METRICS", "SEARCH", "SELECT", "SLICE"];

/// What is wrong with an expression over these inputs.
pub(in super::super) fn wrong<'a>(
    text: &str,
    inputs: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let mut open = Vec::new();
    let mut used = BTreeSet::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = word(rest);
        let end = match first {
            '"' | '\'' => match rest[1..].find(first) {
                Some(end) => end + 2,
                None => return Some(format!("{first} is not closed")),
            },
            _ if !word.is_empty() => {
                if first.is_ascii_lowercase() && !inputs.clone().any(|input| input == word) {
                    let meant = closest(word, inputs.clone());
                    let meant = meant.map_or_else(
                        || format!("there are {}", Vec::from_iter(inputs.clone()).join(", ")),
                        |meant| format!("did you mean {meant}?"),
                    );
                    return Some(format!("{word:?} is not among its inputs; {meant}"));
                }
                if OF_MANY.contains(&word) {
                    return Some(format!("{word} makes many series of one expression; name the inputs"));
                }
                used.insert(word);
                word.len()
            }
            '(' | '[' => {
                open.push(if first == '(' { ')' } else { ']' });
                1
            }
            ')' | ']' => {
                if open.pop() != Some(first) {
                    return Some(format!("{first} closes nothing"));
                }
                1
            }
            _ if "+-*/^,.<>=!&| \t\n".contains(first) => 1,
            _ => return Some(format!("{first:?} belongs to no expression")),
        };
        rest = &rest[end..];
    }
    if let Some(closing) = open.pop() {
        return Some(format!("{closing} is missing"));
    }
    let unused = inputs.clone().find(|input| !used.contains(input));
    unused.map(|input| format!("the input {input} is not used in it, and would be paid for"))
}

/// The name, function or number that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloudwatch_would_refuse_is_known_before() {
        let told = |text: &str| wrong(text, ["errors", "requests"].into_iter()).unwrap_or_default();
        for good in [
            "errors / requests",
            "100*(errors/requests)",
            "IF(requests > 1e3 AND errors >= 0.5, SUM([errors, requests]), FILL(errors, 0)) ^ 2 / TIME_SERIES(3)",
        ] {
            assert_eq!(told(good), "", "{good}");
        }
        for (bad, word) in [
            ("errors / request", "did you mean requests?"),
            ("errors / (requests", ") is missing"),
            ("errors / requests]", "] closes nothing"),
            ("[errors, requests)", ") closes nothing"),
            ("errors / requests; 1", "belongs to no expression"),
            ("SUM(METRICS()) / errors / requests", "many series"),
            ("SEARCH('{App} errors', 'Sum') + errors", "many series"),
            ("errors * 'requests", "is not closed"),
            ("errors * 2", "would be paid for"),
        ] {
            assert!(told(bad).contains(word), "{bad}: {}", told(bad));
        }
    }
}
