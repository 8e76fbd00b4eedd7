//! Time and processor of something that is done over and over.

use std::time::{Duration, Instant};

/// Processor time so far, in seconds.
type Clock<'a> = Box<dyn Fn() -> f64 + 'a>;

pub struct Meter<'a> {
    name: &'static str,
    clocks: Vec<(&'static str, Clock<'a>, f64)>,
    times: Vec<Duration>,
}

impl<'a> Meter<'a> {
    pub fn new(name: &'static str) -> Self {
        Self { name, clocks: Vec::new(), times: Vec::new() }
    }

    /// Also counts the processor time of a process, its ended children included.
    pub fn process(mut self, name: &'static str, pid: u32) -> Self {
        let clock: Clock<'a> = Box::new(move || process_seconds(pid));
        let begun = clock();
        self.clocks.push((name, clock, begun));
        self
    }

    pub async fn measure<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let result = work.await;
        self.times.push(began.elapsed());
        result
    }

    pub fn print(mut self) {
        self.times.sort();
        let rounds = self.times.len();
        let ms = |at: usize| self.times[at].as_secs_f64() * 1e3;
        let mut line = format!(
            "  {:32} {:8.1} ms median, {:8.1} to {:.1} ms",
            self.name,
            ms(rounds / 2),
            ms(0),
            ms(rounds - 1)
        );
        for (name, clock, begun) in &self.clocks {
            line.push_str(&format!("; {name} {:.1} ms CPU", (clock() - begun) * 1e3 / rounds as f64));
        }
        println!("{line}");
    }
}

/// User and system time of a process and its ended children.
fn process_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return 0.0 };
    let ticks: u64 = rest.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
