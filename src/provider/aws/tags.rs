//! Tags of EC2's resources: the name that people see, and the mark that makes a creation happen once.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

use super::connect::filter;
use super::error::failed;
use crate::model::resource::ResourceId;
use crate::provider::Token;
use crate::{ErrorKind, Result};

/// The tag with the token of the step that made a resource. EC2 has client tokens for few kinds only, and forgets them; so
/// each creation looks for its mark first. It is ours, and no list shows it.
pub(super) const TOKEN: &str = "barograph:token";
/// The tag that EC2's own console takes for the name.
pub(super) const NAME: &str = "Name";

/// AWS's limits of a resource's tags: their number, and the characters of a key and of a value.
const MOST: usize = 50;
const LONGEST: (usize, usize) = (128, 256);

/// Tags as people gave them.
pub(super) fn shown(tags: Option<&[Tag]>) -> BTreeMap<String, String> {
    let tags = tags.unwrap_or_default().iter();
    let tags = tags.filter_map(|tag| Some((tag.key.clone()?, tag.value.clone().unwrap_or_default())));
    tags.filter(|(key, _)| key != TOKEN).collect()
}

/// The name among tags; an empty one is none.
pub(super) fn name(tags: &BTreeMap<String, String>) -> Option<String> {
    tags.get(NAME).filter(|name| !name.is_empty()).cloned()
}

/// What a resource is to be marked with: its name, its tags, and the token that it is made by.
///
/// # Errors
/// [`ErrorKind::Invalid`] for tags that AWS would refuse, or that say another name.
pub(super) fn wanted(
    operation: &str,
    name: &str,
    tags: &BTreeMap<String, String>,
    token: Token,
) -> Result<Vec<Tag>> {
    check(operation, name, tags)?;
    let mut all = tags.clone();
    if !name.is_empty() {
        all.insert(NAME.into(), name.into());
    }
    all.insert(TOKEN.into(), token.to_string());
    Ok(all.iter().map(|(key, value)| tag(key, value)).collect())
}

/// Refuses tags that AWS would refuse, before anything is made.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub(super) fn check(operation: &str, name: &str, tags: &BTreeMap<String, String>) -> Result<()> {
    let wrong = |reason: String| Err(failed(ErrorKind::Invalid, operation, name, reason));
    // The name and the token take two places.
    if tags.len() + 2 > MOST {
        return wrong(format!(
            "{} tags are too many; AWS keeps {MOST} with the name and our own",
            tags.len()
        ));
    }
    for (key, value) in tags {
        let (of_key, of_value) = LONGEST;
        if key.is_empty() || key.chars().count() > of_key || value.chars().count() > of_value {
            return wrong(format!(
                "the tag {key:?} does not fit; a key has 1 to {of_key} characters, a value up to {of_value}"
            ));
        }
        if key.to_lowercase().starts_with("aws:") || key == TOKEN {
            return wrong(format!("the tag {key:?} is reserved; choose another key"));
        }
    }
    match tags.get(NAME) {
        Some(other) if other != name => {
            wrong(format!("the tag {NAME} says {other:?}, and the name is another; leave the tag out"))
        }
        _ => Ok(()),
    }
}

/// A tag.
pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// Tags of what a call makes.
pub(super) fn on(kind: ResourceType, tags: &[Tag]) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags.to_vec())).build()
}

/// Finds what a step's own token made before.
pub(super) fn made_by(token: Token) -> Filter {
    filter(&format!("tag:{TOKEN}"), [token.to_string()])
}

/// Finds what has a name, or another value that people gave: EC2 takes `*` and `?` for patterns.
pub(super) fn exactly(field: &str, value: &str) -> Filter {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    filter(field, [escaped])
}

/// The tags of a resource with the same meaning on a copy: all but those that AWS or we keep for ourselves.
pub(super) fn copied(tags: Option<&[Tag]>, token: Token) -> Vec<Tag> {
    let mut all = shown(tags);
    all.retain(|key, _| !key.to_lowercase().starts_with("aws:"));
    all.insert(TOKEN.into(), token.to_string());
    all.iter().map(|(key, value)| tag(key, value)).collect()
}

/// What a plan calls a resource: its name, or its id where it has none.
pub(super) fn title(id: &ResourceId, tags: Option<&[Tag]>) -> String {
    name(&shown(tags)).unwrap_or_else(|| id.native_id.clone())
}

/// How a resource is called in messages: by its name, and its id behind it.
pub(super) fn label(id: &ResourceId, tags: Option<&[Tag]>) -> String {
    match name(&shown(tags)) {
        Some(name) => format!("{name} ({})", id.native_id),
        None => id.native_id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_mark_is_not_shown_and_the_name_is_a_tag() {
        let token = Token::random();
        let given = [("team".to_owned(), "a".to_owned())].into();
        let tags = wanted("create", "web", &given, token).unwrap();
        assert_eq!(tags.len(), 3);
        let shown = shown(Some(&tags));
        assert_eq!(name(&shown).as_deref(), Some("web"));
        assert!(!shown.contains_key(TOKEN));
        assert_eq!(shown.get("team").map(String::as_str), Some("a"));
    }

    #[test]
    fn a_name_is_no_pattern() {
        let values = |value| exactly("tag:Name", value).values.unwrap_or_default();
        assert_eq!(values("web-*"), [r"web-\*"]);
        assert_eq!(values(r"a?b\c"), [r"a\?b\\c"]);
        assert_eq!(values("plain"), ["plain"]);
    }

    #[test]
    fn what_aws_would_refuse_is_refused_before() {
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        for (tags, word) in [
            (one("aws:x", "1"), "reserved"),
            (one(TOKEN, "1"), "reserved"),
            (one(&"k".repeat(129), "1"), "does not fit"),
            (one("k", &"v".repeat(257)), "does not fit"),
            (one(NAME, "other"), "says \"other\""),
            ((0..60).map(|n| (n.to_string(), String::new())).collect(), "too many"),
        ] {
            let error = check("create", "web", &tags).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        check("create", "web", &one(NAME, "web")).unwrap();
    }
}
