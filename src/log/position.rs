//! Places in a log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place between two frames. Positions of one log are ordered as the frames were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Position {
    /// Before the first frame of any log.
    pub const START: Self = Self { segment: 0, offset: 0 };

    /// Number of the segment that it lies in.
    pub fn segment(self) -> u64 {
        self.segment
    }

    /// Where a segment begins.
    pub fn start_of(segment: u64) -> Self {
        Self { segment, offset: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}
