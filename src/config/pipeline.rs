//! What a pipeline file says, typed.

use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::named::{NAME_PATTERN, Named};
use super::settings::Settings;
use crate::model::Span;
use crate::{provider, sink, transform};

/// A pipeline: where measurements come from, what happens to them, and where they go.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Name of the pipeline, in logs and metrics.
    #[schemars(extend("pattern" = NAME_PATTERN))]
    pub name: String,
    /// How it runs; everything has a default.
    #[serde(default)]
    pub settings: Settings,
    /// Where measurements come from, by name, in the order of the file.
    pub sources: Named<SourceConfig>,
    /// What happens to rows on their way, in this order.
    #[serde(default)]
    pub transforms: Vec<TransformConfig>,
    /// Where rows go, by name, in the order of the file: every sink gets every row.
    pub sinks: Named<SinkConfig>,
}

/// A source.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(transform = close_variants)]
pub struct SourceConfig {
    /// Time between two collections.
    pub every: Span,
    /// Longest time that a collection may take; as long as `every` if left out.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// What is measured.
    #[serde(flatten)]
    pub kind: SourceKind,
}

/// What a source measures.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SourceKind {
    /// This machine.
    Host(provider::host::Config),
    /// libvirt guests.
    Kvm(provider::kvm::Config),
    /// Containers of containerd.
    Containerd(provider::containerd::Config),
    /// Instances and volumes of AWS.
    Aws(Box<provider::aws::Config>),
}

/// A step on the way.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TransformConfig {
    /// Sets tags.
    Tag(transform::tag::Config),
    /// Gives columns other names.
    Rename(transform::rename::Config),
    /// Leaves columns out.
    Drop(transform::drop::Config),
    /// Leaves all fields out but some.
    Keep(transform::keep::Config),
    /// Keeps the rows for which an SQL expression is true.
    Filter(transform::filter::Config),
    /// Runs a query over each batch.
    Sql(transform::sql::Config),
    /// Makes fewer rows, each for a longer interval.
    Downsample(transform::downsample::Config),
}

/// A destination.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SinkConfig {
    /// The embedded store.
    Store(sink::store::Config),
    /// InfluxDB.
    Influxdb(Box<sink::influxdb::Config>),
    /// Standard output.
    Stdout(sink::stdout::Config),
}

impl Pipeline {
    /// Files that a source names lie beside the pipeline file, as those of `${file:}` do, and not where the program
    /// happens to be started.
    pub(super) fn rebase(&mut self, folder: &Path) {
        for source in self.sources.values_mut() {
            let (sizes, prices) = match &mut source.kind {
                SourceKind::Kvm(config) => (&mut config.sizes, &mut config.prices),
                SourceKind::Containerd(config) => (&mut config.sizes, &mut config.prices),
                SourceKind::Aws(config) => {
                    let tokens =
                        config.accounts.iter_mut().filter_map(|account| account.web_identity.as_mut());
                    tokens.for_each(|identity| identity.token_file = folder.join(&identity.token_file));
                    continue;
                }
                SourceKind::Host(_) => continue,
            };
            for path in [sizes, prices].into_iter().flatten() {
                *path = folder.join(&path);
            }
        }
    }
}

impl SourceConfig {
    /// Longest time that a collection may take.
    pub fn deadline(&self) -> Span {
        self.timeout.unwrap_or(self.every)
    }
}

impl SourceKind {
    /// The word after `type:`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Kvm(_) => "kvm",
            Self::Containerd(_) => "containerd",
            Self::Aws(_) => "aws",
        }
    }
}

impl TransformConfig {
    /// The word after `type:`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tag(_) => "tag",
            Self::Rename(_) => "rename",
            Self::Drop(_) => "drop",
            Self::Keep(_) => "keep",
            Self::Filter(_) => "filter",
            Self::Sql(_) => "sql",
            Self::Downsample(_) => "downsample",
        }
    }
}

impl SinkConfig {
    /// The word after `type:`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Influxdb(_) => "influxdb",
            Self::Stdout(_) => "stdout",
        }
    }
}

// Any text in a pipeline file may come from `${env:}` or `${file:}` and be a secret, so that only names that cannot be
// secrets are ever printed.

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.name)
            .field("sources", &self.sources)
            .field("transforms", &self.transforms)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for TransformConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Moves the keys that all variants share into each of them, so that each variant says on its own what it allows.
fn close_variants(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let shared = taken_map(object.remove("properties"));
    let needed = taken_list(object.remove("required"));
    object.remove("type");
    let Some(Value::Array(variants)) = object.get_mut("oneOf") else { return };
    for variant in variants.iter_mut().filter_map(Value::as_object_mut) {
        let mut properties = taken_map(variant.remove("properties"));
        let mut required = taken_list(variant.remove("required"));
        let own = std::mem::take(&mut properties);
        // `type` first, then what all have, then what only this one has.
        let (tag, own): (Map<_, _>, Map<_, _>) = own.into_iter().partition(|(key, _)| key == "type");
        properties.extend(tag.into_iter().chain(shared.clone()).chain(own));
        required.extend(needed.clone());
        variant.insert("properties".into(), Value::Object(properties));
        variant.insert("required".into(), Value::Array(required));
        variant.insert("additionalProperties".into(), Value::Bool(false));
    }
}

fn taken_map(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn taken_list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}
