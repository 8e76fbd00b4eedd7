//! How a management command ends, as a number that scripts can rely on.

use std::process::ExitCode;

use crate::{Error, ErrorKind};

/// A part failed; what was found or done is printed, and so is what failed.
pub const PARTIAL: u8 = 3;
/// The credentials are missing or do not allow it.
pub const DENIED: u8 = 4;
/// It is not there.
pub const NOT_FOUND: u8 = 5;
/// A guard forbids it: a limit, a protected resource, a missing confirmation.
pub const GUARDED: u8 = 6;
/// It was begun and is not over in the time that was allowed.
pub const TIMED_OUT: u8 = 7;
/// The provider could not or would not.
pub const PROVIDER: u8 = 8;
/// Ctrl-C, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// The code of an error.
pub fn code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Invalid => super::super::BAD_INPUT,
        ErrorKind::Auth | ErrorKind::Denied => DENIED,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Protected => GUARDED,
        ErrorKind::Unavailable if error.operation() == "wait for" => TIMED_OUT,
        _ => PROVIDER,
    }
}

/// The code of many that ended, of which some failed: the error's own if all failed in one way, else partial.
pub fn of_many(ended: &[Result<(), Error>]) -> ExitCode {
    let mut codes: Vec<u8> = ended.iter().map(|ended| ended.as_ref().err().map_or(0, code)).collect();
    codes.dedup();
    match codes[..] {
        [] => ExitCode::SUCCESS,
        [code] => ExitCode::from(code),
        _ => ExitCode::from(PARTIAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code_and_a_mixture_is_partial() {
        for (kind, expected) in [
            (ErrorKind::Invalid, 2),
            (ErrorKind::Auth, 4),
            (ErrorKind::Denied, 4),
            (ErrorKind::NotFound, 5),
            (ErrorKind::Protected, 6),
            (ErrorKind::Unavailable, 8),
            (ErrorKind::Conflict, 8),
            (ErrorKind::Capacity, 8),
        ] {
            assert_eq!(code(&Error::new(kind, "do", "no")), expected, "{kind}");
        }
        assert_eq!(code(&Error::unavailable("wait for", "still Stopping")), TIMED_OUT);
        let failed = || Err(Error::invalid("do", "no"));
        let text = |ended: &[Result<(), Error>]| format!("{:?}", of_many(ended));
        assert_eq!(text(&[Ok(()), failed()]), format!("{:?}", ExitCode::from(PARTIAL)));
        assert_eq!(text(&[failed(), failed()]), format!("{:?}", ExitCode::from(2)));
        assert_eq!(text(&[Ok(()), Ok(())]), format!("{:?}", ExitCode::SUCCESS));
    }
}
