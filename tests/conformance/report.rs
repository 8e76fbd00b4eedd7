//! What was checked, and what was left out because the provider does not claim it.

use std::time::Instant;

/// Counts checks by topic.
pub(crate) struct Report {
    provider: &'static str,
    began: Instant,
    topics: Vec<(&'static str, usize, Vec<&'static str>)>,
}

impl Report {
    pub(crate) fn new(provider: &'static str) -> Self {
        Self { provider, began: Instant::now(), topics: Vec::new() }
    }

    /// The following checks belong to this topic.
    pub(crate) fn topic(&mut self, topic: &'static str) {
        self.topics.push((topic, 0, Vec::new()));
    }

    /// Something holds.
    #[track_caller]
    pub(crate) fn check(&mut self, holds: bool, what: impl AsRef<str>) {
        let (topic, count, _) = self.topics.last_mut().expect("a topic is set");
        assert!(holds, "{}: {topic}: {}", self.provider, what.as_ref());
        *count += 1;
    }

    /// Something is not claimed.
    pub(crate) fn absent(&mut self, what: &'static str) {
        self.topics.last_mut().expect("a topic is set").2.push(what);
    }

    pub(crate) fn count(&self, topic: &str) -> usize {
        self.topics.iter().filter(|(name, ..)| *name == topic).map(|(_, count, _)| count).sum()
    }

    pub(crate) fn print(&self) {
        let total: usize = self.topics.iter().map(|(_, count, _)| count).sum();
        println!("{}: {total} checks in {:.0} s", self.provider, self.began.elapsed().as_secs_f64());
        for (topic, count, absent) in &self.topics {
            let absent = if absent.is_empty() {
                String::new()
            } else {
                format!("; not claimed: {}", absent.join(", "))
            };
            println!("  {topic}: {count}{absent}");
        }
    }
}
