//! The rig: ministack, and microburst before it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// For ministack, an access key of 12 digits is the account.
pub const ACCOUNT: &str = "111111111111";

/// A running ministack, ended with the test.
pub struct Ministack {
    state: PathBuf,
    pub address: SocketAddr,
}

impl Ministack {
    pub fn up(name: &str) -> Self {
        let state = std::env::temp_dir().join(format!("ministack-{name}-{}", std::process::id()));
        // Also when it does not start, what is there has to go.
        let mut rig = Self { state, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        rig.address = rig.run("up", &[]).trim().parse().unwrap();
        rig
    }

    /// Starts the proxy; its address. `rules` are microburst's, in JSON.
    pub fn burst(&self, rules: &str) -> SocketAddr {
        let file = self.state.join("rules.json");
        std::fs::write(&file, rules).unwrap();
        self.run("burst", &[file.to_str().unwrap()]).trim().parse().unwrap()
    }

    /// What the proxy did.
    pub fn fired(&self) -> String {
        self.run("fired", &[])
    }

    fn run(&self, what: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/ministack.sh"));
        command.arg(what).arg(&self.state).args(arguments).stderr(Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{what} failed");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        self.run("down", &[]);
        _ = std::fs::remove_dir_all(&self.state);
    }
}
