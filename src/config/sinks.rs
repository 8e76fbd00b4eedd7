//! What sinks of the right form may still get wrong.

use std::collections::HashMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::time::Duration;

use super::diagnostic::Place;
use super::meaning::{Meaning, Part, typed};
use super::pipeline::SinkConfig;
use super::report::place;
use crate::model::Size;
use crate::sink::{backlog, influxdb, store};

/// Less memory than this makes a store write tiny segments all the time.
const SMALLEST_BUFFER: Size = Size(1 << 20);
/// The log holds what is buffered, and a store empties its buffer when the log is half full.
const LARGEST_BUFFER: Size = Size(1 << 30);
/// A store drops nothing smaller than the window of a segment.
const SHORTEST_RETENTION: Duration = Duration::from_secs(3_600);
/// Flushing more often than this makes tiny segments and nothing more durable.
const SHORTEST_FLUSH: Duration = Duration::from_millis(100);
/// Smaller requests cost more than they carry, and 3.x takes no more than 10 MiB if it is not told otherwise.
const SMALLEST_REQUEST: Size = Size(1 << 10);
/// Larger requests than 1.x takes if it is not told otherwise make no sense anywhere.
const LARGEST_REQUEST: Size = Size(100 << 20);

/// A batch of rows must have room in a backlog several times.
const SMALLEST_BACKLOG: Size = Size(16 << 20);
/// Rows that wait longer than this for others would look lost.
const LONGEST_AGE: Duration = Duration::from_secs(3_600);

impl Meaning<'_> {
    /// What is wrong with a sink; `folders` are those of the sinks before it.
    pub(super) fn sink(&mut self, part: &Part<'_>, folders: &mut HashMap<PathBuf, Place>) {
        match typed(part, self.report) {
            Some(SinkConfig::Store(config)) => self.store(part, &config, folders),
            Some(SinkConfig::Influxdb(config)) => self.influxdb(part, &config, folders),
            Some(SinkConfig::Stdout(_)) | None => {}
        }
    }

    fn store(&mut self, part: &Part<'_>, config: &store::Config, folders: &mut HashMap<PathBuf, Place>) {
        if config.path.as_os_str().is_empty() {
            self.add(part, "path", "the path of the store is empty; write for example ./data");
        }
        self.shown(
            part,
            "path",
            "the path is shown in logs",
            "write the path itself, or set the folder with --data",
        );
        if let Some(retention) = config.retention {
            self.at_most(part, "retention", retention);
            if retention.0 < SHORTEST_RETENTION {
                let message = "`retention` must be an hour or more: whole hours and days are dropped";
                self.add(part, "retention", message);
            }
        }
        self.at_most(part, "flush", config.flush);
        if config.flush.0 < SHORTEST_FLUSH {
            self.add(
                part,
                "flush",
                "`flush` must be 100ms or more: rows are durable before; 10m serves well",
            );
        }
        if !(SMALLEST_BUFFER..=LARGEST_BUFFER).contains(&config.buffer) {
            self.add(
                part,
                "buffer",
                format!("`buffer` must be from {SMALLEST_BUFFER} to {LARGEST_BUFFER}; 128MiB serves well"),
            );
        }
        self.own_folder(part, "path", &config.path, folders);
    }

    /// Two sinks that keep rows on disk cannot do so in one folder.
    fn own_folder(
        &mut self,
        part: &Part<'_>,
        key: &str,
        path: &FilePath,
        folders: &mut HashMap<PathBuf, Place>,
    ) {
        let (at, mut fault) = part.fault_at(key, "two sinks cannot share a folder");
        let Some(here) = fault.place else { return };
        let folder: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        if let Some(first) = folders.insert(folder, here) {
            fault.related.push((first, "used here first".into()));
            self.report.add(&at, fault.help("give each sink a `path` of its own"));
        }
    }

    fn backlog(&mut self, part: &Part<'_>, config: &backlog::Config, folders: &mut HashMap<PathBuf, Place>) {
        if config.max_bytes < SMALLEST_BACKLOG {
            let message =
                format!("`backlog.max_bytes` must be {SMALLEST_BACKLOG} or more; 10GiB serves well");
            self.add(part, "backlog", message);
        }
        let Some(path) = &config.path else { return };
        if path.as_os_str().is_empty() {
            self.add(part, "backlog", "`backlog.path` is empty; leave it out, or name a folder");
        }
        if self.report.is_secret(&part.path.key("backlog").key("path")) {
            let (at, fault) = part.fault_at("backlog", "the path is shown in logs, and a secret must not be");
            self.report.add(&at, fault.help("write the path itself"));
        }
        self.own_folder(part, "backlog", path, folders);
    }

    fn influxdb(
        &mut self,
        part: &Part<'_>,
        config: &influxdb::Config,
        folders: &mut HashMap<PathBuf, Place>,
    ) {
        self.backlog(part, &config.backlog, folders);
        if config.batch.age.0 > LONGEST_AGE {
            self.add(part, "batch", "`batch.age` must be at most an hour; 1s serves well");
        }
        // A password or token that is written into the URL is as secret as one that comes from a reference.
        let url = part.path.key("url");
        if let Some(node) = part.node.get("url")
            && config.url.contains(['@', '?'])
        {
            self.report.hide(place(node));
        }
        if self.report.is_secret(&url) {
            self.shown(
                part,
                "url",
                "the URL is shown in logs",
                "write it itself; credentials have keys of their own",
            );
        }
        for (key, message) in config.faults() {
            if key != "url" || !self.report.is_secret(&url) {
                self.add(part, key, message);
            }
        }
        for key in ["database", "retention_policy", "org", "bucket"] {
            self.shown(part, key, "the name is shown in logs", "write it itself");
        }
        self.positive(part, "timeout", config.timeout);
        self.positive(part, "connect_timeout", config.connect_timeout);
        if !(SMALLEST_REQUEST..=LARGEST_REQUEST).contains(&config.batch.bytes) {
            let message = format!(
                "`batch.bytes` must be from {SMALLEST_REQUEST} to {LARGEST_REQUEST}; 5MiB serves well"
            );
            self.add(part, "batch", message);
        }
        if config.ca_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            self.add(part, "ca_file", "`ca_file` is empty; leave it out, or name a file");
        }
        if config
            .user_agent
            .as_ref()
            .is_some_and(|text| text.is_empty() || text.chars().any(char::is_control))
        {
            self.add(
                part,
                "user_agent",
                "`user_agent` must be one line of text; leave it out for barograph's own",
            );
        }
    }
}
