//! One test for each row of what servers answer and of what follows from it.

use super::*;

fn verdict(dialect: Dialect, status: u16, text: &str) -> Verdict {
    judge(&Answer::of(status, text), dialect)
}

fn refused(dialect: Dialect, status: u16, text: &str) -> Refusal {
    match verdict(dialect, status, text) {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{status} {text}: {other:?}"),
    }
}

#[track_caller]
fn faulty(answer: &Answer, expected: ErrorKind, expected_retry: Retry) -> String {
    for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
        match judge(answer, dialect) {
            Verdict::Fault { kind, retry, .. } => {
                assert_eq!((kind, retry), (expected, expected_retry), "{answer:?}");
            }
            other => panic!("{answer:?}: {other:?}"),
        }
    }
    match judge(answer, Dialect::V1) {
        Verdict::Fault { reason, .. } => reason,
        _ => String::new(),
    }
}

// What follows from an answer.

#[test]
fn success_is_stored_and_strange_success_is_counted() {
    for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
        for status in [200, 204] {
            assert_eq!(verdict(dialect, status, ""), Verdict::Stored { odd: false });
        }
        for status in [201, 202, 206, 299] {
            assert_eq!(verdict(dialect, status, "partial write"), Verdict::Stored { odd: true });
        }
    }
}

#[test]
fn what_passes_by_itself_is_tried_again_for_ever_and_not_before_the_server_wants_it() {
    for status in [408, 500, 502, 503, 504, 507, 520, 599] {
        faulty(&Answer::of(status, "oops"), ErrorKind::Unavailable, Retry::Later);
    }
    faulty(&Answer::of(429, ""), ErrorKind::Throttled, Retry::Later);
    faulty(
        &Answer::of(503, r#"{"error":"request throttled, queue full"}"#),
        ErrorKind::Throttled,
        Retry::Later,
    );
    let wait = Duration::from_secs(7);
    for (status, kind) in
        [(429, ErrorKind::Throttled), (503, ErrorKind::Unavailable), (500, ErrorKind::Unavailable)]
    {
        let answer = Answer { retry_after: Some(wait), ..Answer::of(status, "") };
        faulty(&answer, kind, Retry::After(wait));
    }
}

#[test]
fn an_internal_error_about_rows_is_about_rows() {
    let conflict = r#"{"code":"internal error","message":"unexpected error writing points to database: partial write: field type conflict: input field \"f\" on measurement \"m\" is type string, already exists as type float dropped=2"}"#;
    let refusal = refused(Dialect::V2, 500, conflict);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Conflict, Some(2)));
    let retention =
        r#"{"code":"internal error","message":"partial write: points beyond retention policy dropped=3"}"#;
    assert_eq!(refused(Dialect::V2, 500, retention).cause, Cause::Retention);
    let policy = r#"{"error":"retention policy not found: week"}"#;
    let reason = faulty(&Answer::of(500, policy), ErrorKind::NotFound, Retry::Never);
    assert!(reason.contains("`retention_policy`") && reason.contains("week"), "{reason}");
}

#[test]
fn what_is_set_up_wrongly_keeps_the_rows() {
    faulty(&Answer::of(401, ""), ErrorKind::Auth, Retry::Never);
    faulty(&Answer::of(407, ""), ErrorKind::Auth, Retry::Never);
    faulty(&Answer::of(403, ""), ErrorKind::Denied, Retry::Never);
    faulty(&Answer::of(402, ""), ErrorKind::Quota, Retry::Never);
    for status in [404, 405, 501, 505] {
        faulty(&Answer::of(status, ""), ErrorKind::NotFound, Retry::Never);
    }
    for status in [406, 409, 410, 411, 415, 421, 431, 451] {
        faulty(&Answer::of(status, ""), ErrorKind::Denied, Retry::Never);
    }
    for status in [301, 302, 303, 307, 308] {
        let location = Some("https://b/write?db=secret#x".to_owned());
        let answer = Answer { location, ..Answer::of(status, "") };
        let reason = faulty(&answer, ErrorKind::NotFound, Retry::Never);
        assert!(reason.contains("https://b/write;") && !reason.contains("secret"), "{reason}");
    }
}

#[test]
fn too_large_is_halved() {
    for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
        let too_large = verdict(dialect, 413, r#"{"error":"Request Entity Too Large"}"#);
        assert!(
            matches!(too_large, Verdict::TooLarge { reason } if reason.ends_with("Request Entity Too Large"))
        );
    }
}

// What servers answer.

#[test]
fn a_line_that_does_not_parse_1x() {
    let partial = r#"{"error":"partial write: unable to parse 'm f=x 2': invalid boolean\nunable to parse 'm,a= f=3 4': missing tag value dropped=0"}"#;
    let refusal = refused(Dialect::V1, 400, partial);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Unparsed, Some(0)));
    let none = r#"{"error":"unable to parse 'm f=x 2': invalid boolean"}"#;
    assert_eq!(refused(Dialect::V1, 400, none).cause, Cause::Unparsed);
}

#[test]
fn a_line_that_does_not_parse_2x() {
    let text = r#"{"code":"invalid","message":"unable to parse 'm f=x 2': invalid boolean"}"#;
    let refusal = refused(Dialect::V2, 400, text);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Unparsed, None));
}

#[test]
fn lines_that_3x_names() {
    let text = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"m f=hi","line_number":2,"error_message":"invalid column type for column 'f', expected iox::column_type::field::float, got iox::column_type::field::string"},{"original_line":"m f=","line_number":5,"error_message":"No fields were provided"}]}"#;
    let Cause::Listed { lines, complete } = refused(Dialect::V3, 400, text).cause else { panic!() };
    assert!(complete);
    assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4]);
    assert!(lines[0].1.contains("column 'f'") && lines[1].1 == "No fields were provided");
    // Of a list that was cut short the first ones are known, and nothing about the others.
    let cut = Answer { whole: false, ..Answer::of(400, &text[..text.len() - 20]) };
    let Verdict::Refused(Refusal { cause: Cause::Listed { lines, complete }, .. }) = judge(&cut, Dialect::V3)
    else {
        panic!()
    };
    assert_eq!((lines.len(), complete), (1, false));
    // With accept_partial=false there is one object, and nothing is stored.
    let one = r#"{"error":"parsing failed for write_lp endpoint","data":{"original_line":"m f=","line_number":1,"error_message":"No fields were provided"}}"#;
    let Cause::Listed { lines, complete } = refused(Dialect::V3, 400, one).cause else { panic!() };
    assert_eq!((lines, complete), (vec![(0, "No fields were provided".to_owned())], false));
    let zero = r#"{"error":"x","data":[{"line_number":0,"error_message":"y"}]}"#;
    assert_eq!(refused(Dialect::V3, 400, zero).cause, Cause::Unknown, "lines are counted from 1");
}

#[test]
fn a_type_conflict() {
    let one = r#"{"error":"partial write: field type conflict: input field \"f\" on measurement \"m\" is type string, already exists as type float dropped=2"}"#;
    let refusal = refused(Dialect::V1, 400, one);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Conflict, Some(2)));
    assert_eq!(
        refusal.reason(),
        r#"field type conflict: input field "f" on measurement "m" is type string, already exists as type float"#
    );
    let two = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"f\" on measurement \"m\" is type string, already exists as type float dropped=1"}"#;
    let refusal = refused(Dialect::V2, 422, two);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Conflict, Some(1)));
    assert!(refusal.reason().starts_with("field type conflict: "));
}

#[test]
fn outside_of_the_retention() {
    let one = r#"{"error":"partial write: points beyond retention policy dropped=1"}"#;
    let refusal = refused(Dialect::V1, 400, one);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Retention, Some(1)));
    let two = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: dropped 3 points outside retention policy of duration 2h0m0s - oldest point m,a=b at 1970-01-01T00:00:00Z dropped because it violates a Retention Policy Lower Bound at 2026-01-01T00:00:00Z, newest point m,a=b at 1970-01-01T00:00:00Z dropped because it violates a Retention Policy Lower Bound at 2026-01-01T00:00:00Z dropped=3 for database: 0123 for retention policy: autogen"}"#;
    let refusal = refused(Dialect::V2, 422, two);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Retention, Some(3)));
}

#[test]
fn limits_of_the_schema() {
    let tables = r#"{"error":"Update to schema would exceed number of tables limit of 2000 tables"}"#;
    assert_eq!(refused(Dialect::V3, 422, tables).cause, Cause::Schema);
    let databases = r#"{"error":"Adding a new database would exceed limit of number of databases of 5"}"#;
    assert!(matches!(verdict(Dialect::V3, 422, databases), Verdict::Fault { kind: ErrorKind::Quota, .. }));
    let series = r#"{"error":"partial write: max-series-per-database limit exceeded: (1000000) dropped=5"}"#;
    let refusal = refused(Dialect::V1, 400, series);
    assert_eq!((&refusal.cause, refusal.dropped), (&Cause::Rows, Some(5)));
}

#[test]
fn a_missing_database_or_bucket_says_what_to_do() {
    for text in [
        r#"{"error":"database not found: \"x\""}"#,
        r#"{"code":"not found","message":"bucket \"x\" not found"}"#,
    ] {
        let reason = faulty(&Answer::of(404, text), ErrorKind::NotFound, Retry::Never);
        assert!(
            reason.contains("`create: true`") && reason.contains("\"x\"") && reason.contains("404"),
            "{reason}"
        );
    }
}

#[test]
fn other_words_may_not_be_about_rows() {
    for text in ["Bad Request", "<html>no</html>", r#"{"error":"database is required"}"#, ""] {
        assert_eq!(refused(Dialect::V1, 400, text).cause, Cause::Unknown, "{text}");
    }
}

#[test]
fn the_words_of_a_body_that_was_cut_are_understood() {
    let whole = r#"{"error":"unable to parse 'm ü=\"\\\\\" 2': invalid"}"#;
    let message = Answer::of(400, whole).message();
    for end in whole.char_indices().map(|(at, _)| at).skip(13) {
        let cut = Answer { whole: false, ..Answer::of(400, &whole[..end]) }.message();
        let is_start = message.starts_with(&cut) || end >= whole.len() - 2;
        assert!(is_start, "{cut:?} is no beginning of {message:?}");
    }
    let hostile = format!("{}{}", "[".repeat(10_000), "x");
    assert!(Answer::of(400, &hostile).said().len() < 400);
}
