//! The JSON Schema of a record.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::FORMAT;
use crate::catalog::run::BackupRun;

/// The JSON Schema of a record in relaxed Extended JSON, in which `mongoexport --jsonFormat=relaxed` writes it.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    let mut record = BackupRun::json_schema(generator).to_value();
    in_bson(&mut record);
    for definition in generator.definitions_mut().values_mut() {
        in_bson(definition);
    }
    if let Some(properties) = record["properties"].as_object_mut() {
        let id = properties.remove("id").unwrap_or_default();
        properties.insert("_id".into(), id);
        properties
            .insert("format".into(), json!({"description": "The version of the format.", "const": FORMAT}));
    }
    if let Some(required) = record["required"].as_array_mut() {
        required.retain(|name| name != "id");
        required.extend(["_id".into(), "format".into()]);
    }
    record.try_into().unwrap_or_default()
}

/// Changes a schema of JSON into the schema of its Extended JSON. A date becomes a BSON date, and an unknown value is left
/// out of the record.
fn in_bson(schema: &mut Value) {
    match schema {
        Value::Array(values) => values.iter_mut().for_each(in_bson),
        Value::Object(map) => {
            let known = |name: &Value| {
                let property = name.as_str().and_then(|name| map.get("properties")?.get(name));
                !property.is_some_and(allows_null)
            };
            let required = map.get("required").and_then(Value::as_array);
            if let Some(required) =
                required.map(|names| names.iter().filter(|name| known(name)).cloned().collect())
            {
                map.insert("required".into(), required);
            }
            map.values_mut().for_each(in_bson);
            value_in_bson(map);
        }
        _ => {}
    }
}

fn allows_null(schema: &Value) -> bool {
    let any_of = schema["anyOf"].as_array().into_iter().flatten();
    let types = schema["type"].as_array().into_iter().flatten();
    types.chain(any_of.map(|one| &one["type"])).any(|name| name == "null")
}

/// Changes the schema of a single value, whose parts are changed already.
fn value_in_bson(schema: &mut Map<String, Value>) {
    for (key, null) in [("type", json!("null")), ("anyOf", json!({"type": "null"}))] {
        if let Some(Value::Array(choices)) = schema.get_mut(key) {
            choices.retain(|choice| *choice != null);
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if schema.get("format").is_some_and(|format| format == "date-time") {
        let text = json!({"type": "string", "format": "date-time"});
        schema.remove("format");
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), json!({"$date": text}));
        schema.insert("required".into(), json!(["$date"]));
    }
}
