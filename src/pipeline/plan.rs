//! From a checked configuration to the parts of a pipeline, not yet started. The only file of this room that knows
//! concrete kinds of sources, transforms and sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::backlog::BacklogPlan;
use super::deliver::OpenSink;
use super::queue::{Batching, Overflow};
use super::target::BACKOFF;
use crate::config::{Pipeline, SinkConfig, SourceConfig, SourceKind, TransformConfig};
use crate::provider::{Collector, aws, containerd, host, kvm};
use crate::sink::{Sink, influxdb, stdout, store};
use crate::telemetry::Telemetry;
use crate::transform::Transform;
use crate::{Error, Result, transform};

/// Where checkpoints and dead letters lie if there is no store.
const DATA: &str = "./data";
/// The folder in it for the backlogs of sinks, each in one of its name.
const BACKLOG: &str = "backlog";

/// What is to run.
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Folder of the checkpoints and dead letters.
    pub data: PathBuf,
    /// The most that dead letters may take of the disk.
    pub dead_letter_bytes: u64,
    /// How long a stop may take to bring the rows on their way to the sinks.
    pub drain: Duration,
    /// In file order.
    pub sources: Vec<SourcePlan>,
    /// In file order, which is the order that rows pass them.
    pub transforms: Vec<TransformPlan>,
    /// The longest that rows may come after their tick.
    pub arrival: Duration,
    /// In file order.
    pub sinks: Vec<SinkPlan>,
}

/// A source to be built.
pub struct SourcePlan {
    /// Name in the pipeline file.
    pub name: String,
    /// Its interval.
    pub every: Duration,
    /// Longest time for one collection.
    pub deadline: Duration,
    /// The most that it waits after a tick.
    pub jitter: Duration,
    /// The running source of this name has the same configuration and may go on.
    pub unchanged: bool,
    /// Makes the collector.
    pub build: BuildSource,
}

/// Makes a collector; connects nowhere yet.
pub type BuildSource = Box<dyn Fn() -> Result<Arc<dyn Collector>> + Send + Sync>;

/// A transform, ready to use.
pub struct TransformPlan {
    /// The kind, as in the pipeline file.
    pub kind: &'static str,
    /// The running transform in this place has the same configuration, and so have all before it: it may go on with the
    /// rows that it keeps.
    pub unchanged: bool,
    /// The transform.
    pub transform: Box<dyn Transform>,
}

/// A sink to be opened.
#[derive(Clone)]
pub struct SinkPlan {
    /// Name in the pipeline file.
    pub name: String,
    /// The running sink of this name has the same configuration and may stay open.
    pub unchanged: bool,
    /// The folder that no two sinks may have open at once, if it has one.
    pub folder: Option<PathBuf>,
    /// Rows that may wait for it.
    pub queue_rows: usize,
    /// What is written together.
    pub batching: Batching,
    /// Writes that may be on their way at once; more than one only behind a backlog.
    pub lanes: usize,
    /// Bounds of the waits between two tries.
    pub backoff: (Duration, Duration),
    /// Where its rows wait on disk until it has acknowledged them, if it does not keep them safe itself.
    pub backlog: Option<BacklogPlan>,
    /// What happens when its queue is full.
    pub overflow: Overflow,
    /// Opens it.
    pub open: OpenSink,
}

impl Plan {
    /// The plan of a checked configuration. Transforms are built, so that a bad expression is found now; nothing is
    /// opened or connected to yet. `previous` is what runs now, so that what stayed the same is marked; `data` moves
    /// the store, the checkpoints and the dead letters to another folder.
    ///
    /// # Errors
    /// If a transform cannot be built, or `data` is given and there is more than one store.
    pub fn new(
        config: &Pipeline,
        previous: Option<&Pipeline>,
        data: Option<&Path>,
        telemetry: &Telemetry,
    ) -> Result<Self> {
        let stores = config.sinks.iter().filter(|(_, sink)| matches!(sink, SinkConfig::Store(_))).count();
        if let Some(folder) = data.filter(|_| stores > 1) {
            let reason = "the pipeline has more than one store, and they cannot share a folder; set their paths in \
                          the pipeline file";
            return Err(
                Error::invalid("use as data folder", reason).with_resource(folder.display().to_string())
            );
        }
        let same_settings = previous.is_some_and(|previous| previous.settings == config.settings);
        let mut sources = Vec::new();
        for (name, source) in &config.sources {
            let running =
                previous.and_then(|p| p.sources.iter().find(|(other, _)| other.as_str() == name.as_str()));
            let unchanged = same_settings && running.is_some_and(|(_, running)| *running == *source);
            sources.push(source_plan(name, source, config.settings.jitter.0, unchanged, telemetry));
        }
        let folder = data.map(Path::to_owned).or_else(|| first_store(config));
        let folder = folder.unwrap_or_else(|| PathBuf::from(DATA));
        let mut sinks = Vec::new();
        for (name, sink) in &config.sinks {
            let running =
                previous.and_then(|p| p.sinks.iter().find(|(other, _)| other.as_str() == name.as_str()));
            let unchanged = same_settings && running.is_some_and(|(_, running)| *running == *sink);
            sinks.push(sink_plan(name, sink.clone(), config, unchanged, data, &folder, telemetry));
        }
        let arrival = sources.iter().map(SourcePlan::arrival).max().unwrap_or_default();
        let running = previous.map_or(&[][..], |previous| &previous.transforms);
        let unchanged = config.transforms.iter().zip(running).take_while(|(next, now)| next == now).count();
        let transforms = config.transforms.iter().enumerate();
        let transforms = transforms.map(|(index, config)| transform_plan(config, index < unchanged));
        let transforms = transforms.collect::<Result<_>>()?;
        Ok(Self {
            name: config.name.clone(),
            data: folder,
            dead_letter_bytes: config.settings.dead_letters.0,
            drain: config.settings.drain.0,
            sources,
            transforms,
            arrival,
            sinks,
        })
    }
}

impl SinkPlan {
    /// Whether both want the same folder for themselves, however its path is written.
    pub(super) fn shares_folder(&self, other: &Self) -> bool {
        let real = |path: &PathBuf| {
            std::fs::canonicalize(path)
                .or_else(|_| std::path::absolute(path))
                .unwrap_or_else(|_| path.clone())
        };
        self.folder.as_ref().zip(other.folder.as_ref()).is_some_and(|(one, two)| real(one) == real(two))
    }
}

impl SourcePlan {
    /// How long after a tick its rows may still come.
    fn arrival(&self) -> Duration {
        self.jitter.min(self.every / 10) + self.deadline
    }
}

/// The folder of the first store, where the state of the pipeline lies too.
fn first_store(config: &Pipeline) -> Option<PathBuf> {
    config.sinks.iter().find_map(|(_, sink)| match sink {
        SinkConfig::Store(store) => Some(store.path.clone()),
        _ => None,
    })
}

fn sink_plan(
    name: &str,
    mut sink: SinkConfig,
    config: &Pipeline,
    unchanged: bool,
    data: Option<&Path>,
    state: &Path,
    telemetry: &Telemetry,
) -> SinkPlan {
    let (mut folder, mut backlog, mut lanes) = (None, None, 1);
    let mut batching = Batching::at_once(config.settings.batch_rows);
    match &mut sink {
        SinkConfig::Store(store) => {
            if let Some(data) = data {
                store.path = data.to_owned();
            }
            folder = Some(store.path.clone());
        }
        SinkConfig::Influxdb(influx) => {
            let path = influx.backlog.path.clone();
            let path = path.unwrap_or_else(|| state.join(BACKLOG).join(name));
            folder = Some(path.clone());
            let (max_bytes, when_full) = (influx.backlog.max_bytes.0, influx.backlog.when_full);
            backlog = Some(BacklogPlan { folder: path, max_bytes, when_full });
            batching = Batching { rows: influx.batch.rows, age: influx.batch.age.0 };
            lanes = influx.in_flight;
        }
        SinkConfig::Stdout(_) => {}
    }
    SinkPlan {
        name: name.to_owned(),
        unchanged,
        folder,
        queue_rows: config.settings.queue_rows,
        batching,
        lanes,
        backoff: BACKOFF,
        backlog,
        overflow: Overflow::Block,
        open: open_sink(name, sink, telemetry),
    }
}

fn source_plan(
    name: &str,
    source: &SourceConfig,
    jitter: Duration,
    unchanged: bool,
    telemetry: &Telemetry,
) -> SourcePlan {
    let (kind, own_name, every) = (source.kind.clone(), name.to_owned(), source.every.0);
    let telemetry = telemetry.clone();
    SourcePlan {
        name: name.to_owned(),
        every: source.every.0,
        deadline: source.deadline().0,
        jitter,
        unchanged,
        build: Box::new(move || {
            Ok(match &kind {
                SourceKind::Host(config) => Arc::new(host::HostCollector::new(config)?),
                SourceKind::Kvm(config) => Arc::new(kvm::KvmCollector::new(config)?),
                SourceKind::Containerd(config) => Arc::new(containerd::ContainerdCollector::new(config)?),
                SourceKind::Aws(config) => {
                    Arc::new(aws::AwsCollector::new(config)?.of_source(&own_name, every, &telemetry))
                }
            })
        }),
    }
}

fn transform_plan(config: &TransformConfig, unchanged: bool) -> Result<TransformPlan> {
    let (kind, transform): (_, Box<dyn Transform>) = match config {
        TransformConfig::Tag(config) => ("tag", Box::new(transform::tag::Tag::new(config)?)),
        TransformConfig::Rename(config) => ("rename", Box::new(transform::rename::Rename::new(config)?)),
        TransformConfig::Drop(config) => ("drop", Box::new(transform::drop::Drop::new(config)?)),
        TransformConfig::Keep(config) => ("keep", Box::new(transform::keep::Keep::new(config)?)),
        TransformConfig::Filter(config) => ("filter", Box::new(transform::filter::Filter::new(config)?)),
        TransformConfig::Sql(config) => ("sql", Box::new(transform::sql::Sql::new(config)?)),
        TransformConfig::Downsample(config) => {
            ("downsample", Box::new(transform::downsample::Downsample::new(config)?))
        }
    };
    Ok(TransformPlan { kind, unchanged, transform })
}

fn open_sink(name: &str, config: SinkConfig, telemetry: &Telemetry) -> OpenSink {
    let (name, telemetry) = (name.to_owned(), telemetry.clone());
    Arc::new(move || {
        let (name, config, telemetry) = (name.clone(), config.clone(), telemetry.clone());
        Box::pin(async move {
            Ok(match config {
                SinkConfig::Store(config) => {
                    Arc::new(store::StoreSink::open(&name, &config, &telemetry).await?) as Arc<dyn Sink>
                }
                SinkConfig::Influxdb(config) => {
                    Arc::new(influxdb::InfluxSink::open(&name, &config, &telemetry).await?)
                }
                SinkConfig::Stdout(config) => Arc::new(stdout::StdoutSink::new(&config)),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn transforms_are_unchanged_up_to_the_first_that_is_not() {
        let read = |transforms: &str| {
            let text = format!(
                "name: a\nsources: {{ host: {{ type: host, every: 1m, timeout: 20s }} }}\ntransforms: [{transforms}]\n\
                 sinks: {{ out: {{ type: stdout }} }}\n"
            );
            config::check(&text, "p.yaml").unwrap()
        };
        let (tag, mean) = ("{ type: tag, set: { site: lab } }", "{ type: downsample, every: 1m }");
        let unchanged = |before: &str, after: &str| -> Vec<bool> {
            let (before, after) = (read(before), read(after));
            let plan = Plan::new(&after, Some(&before), None, &Telemetry::default()).unwrap();
            assert_eq!(plan.arrival, Duration::from_secs(25), "jitter and timeout");
            plan.transforms.iter().map(|transform| transform.unchanged).collect()
        };
        assert_eq!(unchanged(&format!("{tag}, {mean}"), &format!("{tag}, {mean}")), [true, true]);
        assert_eq!(unchanged(tag, &format!("{tag}, {mean}")), [true, false]);
        assert_eq!(unchanged(&format!("{tag}, {mean}"), &format!("{mean}, {mean}")), [false, false]);
        assert!(
            Plan::new(&read(mean), None, None, &Telemetry::default())
                .unwrap()
                .transforms
                .iter()
                .all(|t| !t.unchanged)
        );
    }
}
