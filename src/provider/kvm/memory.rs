//! What steps did that leave no trace of their token in libvirt: known as long as this process lives.

use std::collections::VecDeque;

use crate::provider::{Done, Token};

/// Steps that are remembered; a plan has far fewer.
const REMEMBERED: usize = 1024;

/// Steps by their tokens, the latest last.
#[derive(Debug)]
pub(super) struct Memory {
    /// Without an answer where that is not known yet, or never will be.
    steps: VecDeque<(Token, Option<Done>)>,
    /// Since when it goes back, in milliseconds since 1970.
    since: u64,
}

impl Default for Memory {
    /// It begins now.
    fn default() -> Self {
        Self { steps: VecDeque::new(), since: Token::random().began() }
    }
}

impl Memory {
    /// What a step did.
    pub(super) fn answer(&self, token: Token) -> Option<Done> {
        self.find(token).cloned().flatten()
    }

    /// Whether a step was begun and what it did is not known; of an attempt that is older than the memory it may be so.
    pub(super) fn may_have_begun(&self, token: Token) -> bool {
        match self.find(token) {
            Some(answer) => answer.is_none(),
            None => token.began() < self.since,
        }
    }

    /// A step is begun.
    pub(super) fn begin(&mut self, token: Token) {
        self.put(token, None);
    }

    /// A step was done.
    pub(super) fn done(&mut self, token: Token, done: &Done) {
        self.put(token, Some(done.clone()));
    }

    /// A step was not done.
    pub(super) fn forget(&mut self, token: Token) {
        self.steps.retain(|(known, _)| *known != token);
    }

    fn find(&self, token: Token) -> Option<&Option<Done>> {
        self.steps.iter().find(|(known, _)| *known == token).map(|(_, done)| done)
    }

    fn put(&mut self, token: Token, done: Option<Done>) {
        self.forget(token);
        if self.steps.len() >= REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back((token, done));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_begun_is_done_or_not_known() {
        let mut memory = Memory::default();
        let token = Token::random();
        assert!(!memory.may_have_begun(token), "it is new");
        memory.begin(token);
        assert_eq!((memory.may_have_begun(token), memory.answer(token)), (true, None));
        memory.done(token, &Done::changed());
        assert_eq!((memory.may_have_begun(token), memory.answer(token)), (false, Some(Done::changed())));
        memory.forget(token);
        assert_eq!((memory.may_have_begun(token), memory.answer(token)), (false, None));
        std::thread::sleep(Duration::from_millis(2));
        assert!(Memory::default().may_have_begun(token), "another process may have begun it");
    }

    #[test]
    fn it_stays_small() {
        let mut memory = Memory::default();
        for _ in 0..REMEMBERED + 5 {
            memory.begin(Token::random());
        }
        assert_eq!(memory.steps.len(), REMEMBERED);
    }
}
