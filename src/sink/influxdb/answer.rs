//! What an answer to a write means for its rows.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::dialect::Dialect;
use crate::{ErrorKind, Retry};

/// Characters of a server's words that a reason repeats.
const REPEATED: usize = 300;

/// What matters of an HTTP answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// `X-Influxdb-Version`.
    pub(super) version: Option<String>,
    /// The body, or its beginning; the error header where there is none.
    pub(super) text: String,
    /// The body is all there.
    pub(super) whole: bool,
}

/// What became of the lines of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All are durable. `odd` if InfluxDB would not have answered like this.
    Stored { odd: bool },
    /// Some cannot be taken.
    Refused(Refusal),
    /// Too many bytes in one request.
    TooLarge { reason: String },
    /// Nothing is known about them; the trouble is with the server or how it is asked.
    Fault { kind: ErrorKind, retry: Retry, reason: String },
}

/// Why lines of a request cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The server's words, whole.
    pub(super) message: String,
    /// How many lines it says that it left out, if it says it.
    pub(super) dropped: Option<usize>,
    pub(super) cause: Cause,
}

/// What is wrong with the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// 3.x names them: the number from 0 and the reason. If `complete`, all others are stored.
    Listed { lines: Vec<(usize, String)>, complete: bool },
    /// They do not parse; 1.x and 2.x repeat them.
    Unparsed,
    /// A field has another type; only the first is named.
    Conflict,
    /// They are too old or too new for the retention.
    Retention,
    /// The server may have no more tables or columns: nothing of the request is stored.
    Schema,
    /// Something else about rows.
    Rows,
    /// The words are not known. Perhaps it is not about the rows at all.
    Unknown,
}

impl Answer {
    /// The server's words, out of whichever JSON they are in, also if that was cut short.
    pub(super) fn message(&self) -> String {
        #[derive(Deserialize)]
        struct Words {
            #[serde(alias = "message")]
            error: Option<String>,
        }
        let read = |text: &str| serde_json::from_str::<Words>(text).ok()?.error;
        let cut = || {
            // A text that was cut is closed where it ends, or before the escape that was cut in two.
            let text = self.text.trim_end_matches('\u{fffd}');
            let ends = text.char_indices().rev().map(|(at, c)| at + c.len_utf8()).take(8);
            ends.filter(|_| text.starts_with('{')).find_map(|end| read(&format!("{}\"}}", text.get(..end)?)))
        };
        read(&self.text).or_else(cut).unwrap_or_else(|| self.text.trim().to_owned())
    }

    /// `: words`, for the end of a reason; nothing if there are none.
    pub(super) fn said(&self) -> String {
        let message = short(&self.message());
        if message.is_empty() { message } else { format!(": {message}") }
    }

    /// An answer for tests.
    #[cfg(test)]
    pub(super) fn of(status: u16, text: &str) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            location: None,
            version: None,
            text: text.to_owned(),
            whole: true,
        }
    }
}

impl Refusal {
    /// The reason for one or all of the lines, without the lines and counts in it.
    pub(super) fn reason(&self) -> String {
        let message = self.message.split(" dropped=").next().unwrap_or_default();
        let message = message.trim_start_matches("failure writing points to database: ");
        short(message.trim_start_matches("partial write: "))
    }
}

/// What an answer in this dialect means.
pub(super) fn judge(answer: &Answer, dialect: Dialect) -> Verdict {
    let message = answer.message();
    let fault = |kind, retry, advice: &str| {
        let reason = format!("{advice} ({}{})", answer.status, answer.said());
        Verdict::Fault { kind, retry, reason }
    };
    let later = answer.retry_after.map_or(Retry::Later, Retry::After);
    match answer.status.as_u16() {
        200 | 204 => Verdict::Stored { odd: false },
        201..=299 => Verdict::Stored { odd: true },
        300..=399 => {
            let to =
                answer.location.as_deref().and_then(|to| to.split(['?', '#']).next()).unwrap_or("elsewhere");
            let advice = format!("it sends us on to {}; write the right address under `url`", short(to));
            fault(ErrorKind::NotFound, Retry::Never, &advice)
        }
        401 => fault(
            ErrorKind::Auth,
            Retry::Never,
            "it does not accept the credentials; check `token`, or `username` and `password`",
        ),
        402 => fault(ErrorKind::Quota, Retry::Never, "the account's limit is reached"),
        403 => fault(
            ErrorKind::Denied,
            Retry::Never,
            "the credentials do not allow to write there; give them the right",
        ),
        404 => fault(
            ErrorKind::NotFound,
            Retry::Never,
            "the database, the bucket or the path is not there; make it, or set `create: true`, or check `url`",
        ),
        405 => fault(
            ErrorKind::NotFound,
            Retry::Never,
            "nothing takes rows at this path; check `url` and `version`",
        ),
        407 => {
            fault(ErrorKind::Auth, Retry::Never, "the proxy does not accept the credentials; check `proxy`")
        }
        413 => Verdict::TooLarge { reason: format!("the request is too large{}", answer.said()) },
        422 if dialect == Dialect::V3 && message.contains("number of databases") => fault(
            ErrorKind::Quota,
            Retry::Never,
            "the server has as many databases as it may; use one that is there",
        ),
        500 if message.contains("retention policy not found") => fault(
            ErrorKind::NotFound,
            Retry::Never,
            "the retention policy is not there; make it, or correct `retention_policy`",
        ),
        500 if speaks_about_rows(&message) => Verdict::Refused(refusal(answer, message, dialect)),
        400 | 422 => Verdict::Refused(refusal(answer, message, dialect)),
        429 => fault(ErrorKind::Throttled, later, "it is asked too often"),
        503 if message.contains("throttled") || message.contains("too many requests") => {
            fault(ErrorKind::Throttled, later, "it is asked too often")
        }
        408 | 500 | 502..=504 => fault(ErrorKind::Unavailable, later, "it cannot take rows now"),
        501 | 505 => fault(
            ErrorKind::NotFound,
            Retry::Never,
            "nothing takes rows at this path; check `url` and `version`",
        ),
        506.. => fault(ErrorKind::Unavailable, later, "it cannot take rows now"),
        _ => fault(
            ErrorKind::Denied,
            Retry::Never,
            "it refuses the request; check `url`, `version` and what is between",
        ),
    }
}

fn speaks_about_rows(message: &str) -> bool {
    ["field type conflict", "beyond retention", "outside retention"]
        .iter()
        .any(|words| message.contains(words))
}

fn refusal(answer: &Answer, message: String, dialect: Dialect) -> Refusal {
    let has = |words: &str| message.contains(words);
    let cause = if let Some((lines, complete)) = listed(answer) {
        Cause::Listed { lines, complete }
    } else if has("field type conflict") {
        Cause::Conflict
    } else if has("beyond retention") || has("outside retention") {
        Cause::Retention
    } else if has("unable to parse '") {
        Cause::Unparsed
    } else if dialect == Dialect::V3 && answer.status == StatusCode::UNPROCESSABLE_ENTITY {
        Cause::Schema
    } else if has("partial write") || answer.status == StatusCode::UNPROCESSABLE_ENTITY {
        Cause::Rows
    } else {
        Cause::Unknown
    };
    Refusal { dropped: dropped(&message), message, cause }
}

/// `dropped=N`, the last one if a line has the word too.
fn dropped(message: &str) -> Option<usize> {
    let (_, behind) = message.rsplit_once("dropped=")?;
    behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// One line that 3.x refused.
#[derive(Deserialize)]
struct Line {
    line_number: usize,
    error_message: String,
}

/// `data` of 3.x: a list if the other lines are stored, one object if nothing is.
#[derive(Deserialize)]
struct Lines {
    data: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Line),
    Many(Vec<Line>),
}

fn listed(answer: &Answer) -> Option<(Vec<(usize, String)>, bool)> {
    let read = |text: &str| serde_json::from_str::<Lines>(text).ok();
    let cut = || {
        // Of a list that was cut the items before the cut are as good as any.
        let ends = answer.text.rmatch_indices("},{").take(4);
        ends.into_iter().find_map(|(at, _)| read(&format!("{}}}]}}", answer.text.get(..at)?)))
    };
    let (lines, complete) = match read(&answer.text) {
        Some(Lines { data: OneOrMany::Many(lines) }) => (lines, answer.whole),
        Some(Lines { data: OneOrMany::One(line) }) => (vec![line], false),
        None => match cut()?.data {
            OneOrMany::Many(lines) => (lines, false),
            OneOrMany::One(_) => return None,
        },
    };
    let lines: Option<Vec<_>> = lines
        .into_iter()
        .map(|line| Some((line.line_number.checked_sub(1)?, short(&line.error_message))))
        .collect();
    lines.filter(|lines| !lines.is_empty()).map(|lines| (lines, complete))
}

/// One line of it, not too long.
pub(super) fn short(text: &str) -> String {
    let text = text.split(['\n', '\r']).next().unwrap_or_default().trim();
    let mut shown: String = text.chars().take(REPEATED).collect();
    if text.chars().nth(REPEATED).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests;
