//! The JSON Schema of a pipeline file, made from the types: the check walks along it, and editors read it.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::pipeline::Pipeline;

/// The JSON Schema (draft 2020-12) of a pipeline file.
pub fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Pipeline>();
    schema.insert("title".into(), "Barograph pipeline".into());
    schema.into()
}
