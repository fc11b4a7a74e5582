//! Parses filters.

use std::cmp::Ordering;

use bson::{RawBson, RawBsonRef, RawDocument};

use super::compare::compare;
use super::{Comparison, Node, Test};
use crate::base::bounds;
use crate::base::error::{Error, Result};
use crate::dumpformat::extjson::Json;

/// The supported operators, for messages and documents.
const SUPPORTED: &str = "Supported are {field: value}, $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not, $and, $or and \
                         $nor, with values in Extended JSON";

/// The most names in a dotted path. A server accepts no deeper documents.
const LONGEST_PATH: usize = bounds::DEEPEST;

fn refused(what: impl Into<String>) -> Error {
    Error::usage(format!("the filter {}", what.into())).hint(SUPPORTED)
}

/// Parses a filter.
pub(super) fn filter(text: &str) -> Result<Node> {
    let json = Json::parse(text).map_err(|why| refused("is not JSON").caused_by(why))?;
    let document = json.document().map_err(|why| refused("is not Extended JSON").caused_by(why))?;
    let document = document.ok_or_else(|| refused("is not a document, such as {\"status\": \"open\"}"))?;
    all(&document)
}

/// Parses the value of an `_id`.
pub(super) fn id(text: &str) -> Result<RawBson> {
    let step = || match text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => format!(r#"Write an ObjectId as '{{"$oid": "{text}"}}'"#),
        false => r#"Write a text as '"text"', a number as 5, and an ObjectId as '{"$oid": "…"}'"#.to_string(),
    };
    let wrong = |why: String| {
        Error::usage(format!("the _id {text} is not Extended JSON")).caused_by(why).hint(step())
    };
    let json = Json::Object(vec![("_id".into(), Json::parse(text).map_err(wrong)?)]);
    let document = json.document().map_err(wrong)?.unwrap_or_default();
    let value = value_of(document.get("_id").map_err(|e| wrong(e.to_string()))?);
    match value {
        RawBson::Array(_) | RawBson::Undefined | RawBson::RegularExpression(_) => {
            Err(Error::usage(format!("{text} cannot be the _id of a document")).hint(step()))
        }
        RawBson::Document(inner) if operator(&inner).is_some() => {
            let name = operator(&inner).unwrap_or_default();
            Err(wrong(format!("'{name}' does not begin a value in Extended JSON")))
        }
        value => Ok(value),
    }
}

fn value_of(value: Option<RawBsonRef<'_>>) -> RawBson {
    value.map_or(RawBson::Null, RawBson::from)
}

/// The name of a document's first field, if it begins like an operator.
fn operator(document: &RawDocument) -> Option<&str> {
    let (name, _) = document.iter().next()?.ok()?;
    Some(name.as_str()).filter(|name| name.starts_with('$'))
}

/// The fields of a part of the filter, which is BSON that this program made.
fn fields(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// Parses a document of conditions, which must all be true.
fn all(document: &RawDocument) -> Result<Node> {
    let mut nodes = Vec::new();
    for (name, value) in fields(document) {
        match name {
            "$and" => nodes.extend(list(name, value)?),
            "$or" => nodes.push(Node::Any(list(name, value)?)),
            "$nor" => nodes.push(Node::Not(Box::new(Node::Any(list(name, value)?)))),
            _ if name.starts_with('$') => {
                return Err(refused(format!("has the operator {name}, which is not supported here")));
            }
            _ => nodes.push(field(name, value)?),
        }
    }
    Ok(Node::All(nodes))
}

/// The conditions in the array of an operator.
fn list(operator: &str, value: RawBsonRef<'_>) -> Result<Vec<Node>> {
    let wrong = || refused(format!("has {operator} without a list of conditions"));
    let items = value.as_array().filter(|items| !items.is_empty()).ok_or_else(wrong)?;
    items.into_iter().flatten().map(|item| all(item.as_document().ok_or_else(wrong)?)).collect()
}

/// Parses the condition on a field: a value, or operators.
fn field(name: &str, value: RawBsonRef<'_>) -> Result<Node> {
    let path: Vec<String> = name.split('.').map(str::to_string).collect();
    if path.len() > LONGEST_PATH {
        return Err(refused(format!("has a path of more than {LONGEST_PATH} names")));
    }
    match value {
        RawBsonRef::Document(operators) if operator(operators).is_some() => operators_on(&path, operators),
        RawBsonRef::RegularExpression(_) => Err(no_regex(name)),
        value => compared(&path, "$eq", Comparison::Equal, value),
    }
}

fn no_regex(place: &str) -> Error {
    refused(format!("has a regular expression ($regex) at {place}, which is not supported"))
}

fn operators_on(path: &[String], operators: &RawDocument) -> Result<Node> {
    let mut nodes = Vec::new();
    for (name, value) in fields(operators) {
        let compare = |comparison| compared(path, name, comparison, value);
        nodes.push(match name {
            "$eq" => compare(Comparison::Equal)?,
            "$ne" => Node::Not(Box::new(compare(Comparison::Equal)?)),
            "$gt" => compare(Comparison::Greater)?,
            "$gte" => compare(Comparison::GreaterOrEqual)?,
            "$lt" => compare(Comparison::Less)?,
            "$lte" => compare(Comparison::LessOrEqual)?,
            "$in" => one_of(path, name, value)?,
            "$nin" => Node::Not(Box::new(one_of(path, name, value)?)),
            "$exists" => exists(path, value)?,
            "$not" => match value {
                RawBsonRef::Document(inner) if operator(inner).is_some() => {
                    Node::Not(Box::new(operators_on(path, inner)?))
                }
                _ => return Err(refused("has $not without an operator, such as {\"$not\": {\"$gt\": 5}}")),
            },
            _ if name.starts_with('$') => {
                let path = path.join(".");
                return Err(refused(format!(
                    "has {name} at {path}, which is no supported operator and no value in Extended JSON"
                )));
            }
            _ => {
                return Err(refused(format!(
                    "has the field {name} among the operators at {}",
                    path.join(".")
                )));
            }
        });
    }
    Ok(Node::All(nodes))
}

fn compared(path: &[String], operator: &str, comparison: Comparison, value: RawBsonRef<'_>) -> Result<Node> {
    match value {
        RawBsonRef::Undefined => return Err(refused(format!("compares {} with undefined", path.join(".")))),
        RawBsonRef::RegularExpression(_) if operator != "$eq" => return Err(no_regex(operator)),
        _ => {}
    }
    Ok(Node::Field { path: path.to_vec(), test: Test::Compare(comparison, value.into()) })
}

fn one_of(path: &[String], operator: &str, value: RawBsonRef<'_>) -> Result<Node> {
    let items =
        value.as_array().ok_or_else(|| refused(format!("has {operator} without a list of values")))?;
    let mut values: Vec<RawBson> = Vec::new();
    for item in items.into_iter().flatten() {
        match item {
            RawBsonRef::RegularExpression(_) => return Err(no_regex(operator)),
            RawBsonRef::Undefined => return Err(refused(format!("has undefined in {operator}"))),
            RawBsonRef::Document(inner) if self::operator(inner).is_some() => {
                return Err(refused(format!(
                    "has {} in {operator}, which is no value in Extended JSON",
                    self::operator(inner).unwrap_or_default()
                )));
            }
            item => values.push(item.into()),
        }
    }
    // The values are well-formed: they were parsed from the filter.
    values.sort_by(|left, right| {
        compare(left.as_raw_bson_ref(), right.as_raw_bson_ref()).unwrap_or(Ordering::Equal)
    });
    Ok(Node::Field { path: path.to_vec(), test: Test::In(values) })
}

fn exists(path: &[String], value: RawBsonRef<'_>) -> Result<Node> {
    let wanted = match value {
        RawBsonRef::Boolean(wanted) => wanted,
        RawBsonRef::Int32(wanted) => wanted != 0,
        RawBsonRef::Int64(wanted) => wanted != 0,
        _ => return Err(refused("has $exists with another value than true or false")),
    };
    let there = Node::Field { path: path.to_vec(), test: Test::Exists };
    Ok(if wanted { there } else { Node::Not(Box::new(there)) })
}
