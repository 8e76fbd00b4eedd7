//! One token for each thing that a person wants: a call that carries it may be repeated and happens once.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

    /// For one step of it: the same step of the same attempt always has the same.
    #[must_use]
    pub fn step(self, step: usize) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{}/{step}", self.0).as_bytes()))
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
    }
}
