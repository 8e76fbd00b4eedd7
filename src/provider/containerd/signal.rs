//! Signals by their names.

use super::error::failed;
use crate::{ErrorKind, Result};

const NAMES: [(&str, u32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// The first and the last of the real-time signals, as libraries count them.
const REAL_TIME: (u32, u32) = (34, 64);

/// The signal that nobody can refuse.
pub(super) const KILL: u32 = 9;

/// The number of `SIGTERM`, `term`, `RTMIN+3` or `15`.
///
/// # Errors
/// [`ErrorKind::Invalid`] for what is no signal.
pub(super) fn number(name: &str) -> Result<u32> {
    let upper = name.trim().to_ascii_uppercase();
    let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().find(|(known, _)| *known == plain).map(|(_, number)| *number);
    let number = named.or_else(|| real_time(plain)).or_else(|| plain.parse().ok());
    number.filter(|number| (1..=REAL_TIME.1).contains(number)).ok_or_else(|| {
        failed(
            ErrorKind::Invalid,
            "send the signal",
            name,
            "there is no such signal; write for example SIGTERM",
        )
    })
}

fn real_time(name: &str) -> Option<u32> {
    let (low, high) = REAL_TIME;
    let beside = |text: &str, sign: char| -> Option<u32> {
        if text.is_empty() { Some(0) } else { text.strip_prefix(sign)?.parse().ok() }
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => low.checked_add(beside(rest, '+')?)?,
        None => high.checked_sub(beside(name.strip_prefix("RTMAX")?, '-')?)?,
    };
    (low..=high).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, expected) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN", 34)]
        {
            assert_eq!(number(name).unwrap(), expected, "{name}");
        }
        for bad in ["", "SIGNOTHING", "0", "65", "RTMIN+99", "RTMAX-99", "-1"] {
            assert_eq!(number(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
