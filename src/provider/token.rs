//! One token for each thing that a person wants: a call that carries it may be repeated and happens once.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// What the steps' tokens are made in.
const NAMESPACE: Uuid = Uuid::from_u128(0x6261_726f_6772_6170_682d_746f_6b65_6e73);

/// An identifier that is new for every attempt of an intent, kept in the journal before the first call is made, and the
/// same when an interrupted attempt goes on. Tokens of later attempts sort after those of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub Uuid);

impl Token {
    /// For a new attempt.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// For one step of it: the same step of the same attempt always has the same, with the attempt's time.
    #[must_use]
    pub fn step(self, step: usize) -> Self {
        let hash = Uuid::new_v5(&NAMESPACE, format!("{}/{step}", self.0).as_bytes());
        let mut rest = [0; 10];
        rest.copy_from_slice(&hash.as_bytes()[6..]);
        Self(Builder::from_unix_timestamp_millis(self.began(), &rest).into_uuid())
    }

    /// When the attempt began, in milliseconds since 1970: what was there before is not of its making.
    pub fn began(self) -> u64 {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        seconds * 1_000 + u64::from(nanos) / 1_000_000
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl std::str::FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is no operation's id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_token_for_ever_and_shares_it_with_none() {
        let token = Token::random();
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!(token.step(1), token.step(1));
        assert_ne!(token.step(1), token.step(2));
        assert_ne!(token.step(1), Token::random().step(1));
        assert!(token < Token::random());
        assert_eq!(token.step(3).began(), token.began());
        assert!(token.began() > 1_700_000_000_000);
    }
}
