//! Traffic of containers, from `/proc`: no message has it, except where a container is a virtual machine.
//!
//! Containers of a pod share one network, which is read once. What is in the network of the machine itself is not the
//! container's own, and is left out.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::provider::mapping::params::{Param, Params};

/// Where a process's network is.
pub(super) fn of(pid: u32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino())
}

/// The network of this machine, and ours.
pub(super) fn machines() -> HashSet<u64> {
    [1, std::process::id()].into_iter().filter_map(of).collect()
}

/// The containers whose networks are to be read, one for each network: the one that was named first in the order given.
pub(super) fn owners<K: Ord>(containers: impl IntoIterator<Item = (K, u32)>) -> BTreeMap<K, u32> {
    let mut seen = machines();
    let mut owners = BTreeMap::new();
    for (key, pid) in containers {
        if of(pid).is_some_and(|network| seen.insert(network)) {
            owners.insert(key, pid);
        }
    }
    owners
}

/// Adds the figures of a process's network, by the names that a message would give them. The loopback is left out,
/// as it is for the machine.
pub(super) fn read(pid: u32, figures: &mut Params) {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/dev")) {
        parse(&text, figures);
    }
}

fn parse(text: &str, figures: &mut Params) {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    for (place, (name, counters)) in lines.filter(|(name, _)| name.trim() != "lo").enumerate() {
        let counters: Vec<u64> =
            counters.split_whitespace().filter_map(|counter| counter.parse().ok()).collect();
        figures.insert(format!("network.{place}.name"), Param::Text(name.trim().to_owned()));
        for (column, figure) in [
            (0, "rx_bytes"),
            (1, "rx_packets"),
            (2, "rx_errors"),
            (3, "rx_dropped"),
            (8, "tx_bytes"),
            (9, "tx_packets"),
            (10, "tx_errors"),
            (11, "tx_dropped"),
        ] {
            if let Some(counter) = counters.get(column) {
                figures.insert(format!("network.{place}.{figure}"), Param::Unsigned(*counter));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_without_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
eth0.100: 2000      20    1    2    0     0          0         0     3000      30    3    4    0     0       0          0
";
        let mut figures = Params::default();
        parse(text, &mut figures);
        assert_eq!(figures.indexes("network"), ["0"]);
        assert_eq!(figures.text("network.0.name"), Some("eth0.100"));
        let number = |name: &str| figures.number(&format!("network.0.{name}")).unwrap();
        assert_eq!(
            [number("rx_bytes"), number("rx_dropped"), number("tx_bytes"), number("tx_errors")],
            [2000, 2, 3000, 3]
        );
    }

    #[test]
    fn the_machines_own_network_is_nobodys() {
        assert!(owners([("a", std::process::id()), ("b", 0)]).is_empty());
    }
}
