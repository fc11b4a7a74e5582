//! A filter for documents: a subset of MongoDB's query language.
//!
//! The result is the same as that of `find` on a server, without a collation. Source: MongoDB, `src/mongo/db/matcher/`
//! (`path.cpp` for arrays on a path, `expression_leaf.cpp` for comparisons).

mod compare;
mod parse;

use std::cmp::Ordering;
use std::fmt;

use bson::{RawArray, RawBson, RawBsonRef, RawDocument};

use crate::base::error::Result as OwnResult;
use compare::{compare, is_nan, rank};

/// A filter for documents.
#[derive(Debug, Clone)]
pub struct Query(Node);

/// A condition on a document.
#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    /// One of the values at a path passes a test.
    Field {
        path: Vec<String>,
        test: Test,
    },
}

/// A test of the values at a path.
#[derive(Debug, Clone)]
enum Test {
    Compare(Comparison, RawBson),
    /// Equal to one of these values, which are sorted.
    In(Vec<RawBson>),
    Exists,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A document that is not BSON.
#[derive(Debug)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<bson::error::Error> for Malformed {
    fn from(error: bson::error::Error) -> Malformed {
        Malformed(error.to_string())
    }
}

impl Query {
    /// Parses a filter in Extended JSON.
    ///
    /// # Errors
    /// Returns a usage error that names the operator or value that is not supported, and the supported ones.
    pub fn parse(text: &str) -> OwnResult<Query> {
        parse::filter(text).map(Query)
    }

    /// The filter for documents with this `_id`, in Extended JSON.
    ///
    /// # Errors
    /// Returns a usage error if the text is not Extended JSON, or cannot be an `_id`.
    pub fn of_id(text: &str) -> OwnResult<Query> {
        let test = Test::Compare(Comparison::Equal, parse::id(text)?);
        Ok(Query(Node::Field { path: vec!["_id".into()], test }))
    }

    /// Returns true if the document passes the filter.
    ///
    /// # Errors
    /// Returns an error if a part of the document that the filter reads is not BSON.
    pub fn matches(&self, document: &RawDocument) -> Result<bool, Malformed> {
        self.0.matches(document)
    }
}

/// Returns true if a server without a collation considers two values equal: `1` and `1.0` are.
///
/// # Errors
/// Returns an error if a value is not BSON.
pub fn are_equal(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> Result<bool, Malformed> {
    compare(left, right).map(Ordering::is_eq)
}

impl Node {
    fn matches(&self, document: &RawDocument) -> Result<bool, Malformed> {
        match self {
            Node::All(nodes) => {
                for node in nodes {
                    if !node.matches(document)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Any(nodes) => {
                for node in nodes {
                    if node.matches(document)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Not(node) => node.matches(document).map(|matches| !matches),
            Node::Field { path, test } => in_document(document, path, test),
        }
    }
}

/// Tests the values at a path of a document. The first array on the path is entered.
fn in_document(document: &RawDocument, path: &[String], test: &Test) -> Result<bool, Malformed> {
    let mut current = document;
    for (at, name) in path.iter().enumerate() {
        let rest = &path[at + 1..];
        match current.get(name)? {
            Some(RawBsonRef::Array(items)) => return in_array(items, rest, test),
            Some(RawBsonRef::Document(inner)) if !rest.is_empty() => current = inner,
            value => return test.passes(value.filter(|_| rest.is_empty())),
        }
    }
    Ok(false)
}

/// Tests the elements of an array; at the end of the path, also the array itself. A number in the path is a position, or a field
/// of the array's documents.
fn in_array(items: &RawArray, rest: &[String], test: &Test) -> Result<bool, Malformed> {
    for (at, item) in items.into_iter().enumerate() {
        let item = item?;
        let matches = match rest.split_first() {
            None => test.passes(Some(item))?,
            Some((name, after)) => {
                let within = match item {
                    RawBsonRef::Document(inner) => in_document(inner, rest, test)?,
                    _ => false,
                };
                within || is_position(name, at) && at_position(item, after, test)?
            }
        };
        if matches {
            return Ok(true);
        }
    }
    Ok(rest.is_empty() && test.passes(Some(RawBsonRef::Array(items)))?)
}

/// Tests an element of an array that a position in the path names. It is not entered at the end of the path.
fn at_position(item: RawBsonRef<'_>, rest: &[String], test: &Test) -> Result<bool, Malformed> {
    match item {
        _ if rest.is_empty() => test.passes(Some(item)),
        RawBsonRef::Document(inner) => in_document(inner, rest, test),
        RawBsonRef::Array(items) => in_array(items, rest, test),
        _ => Ok(false),
    }
}

fn is_position(name: &str, at: usize) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
        && name.parse() == Ok(at)
        && (at == 0) == name.starts_with('0')
}

impl Test {
    /// Tests a value. `None` is a missing field.
    fn passes(&self, value: Option<RawBsonRef<'_>>) -> Result<bool, Malformed> {
        match self {
            Test::Exists => Ok(value.is_some()),
            Test::Compare(comparison, wanted) => comparison.passes(value, wanted.as_raw_bson_ref()),
            Test::In(wanted) => {
                // A missing field and the deprecated undefined are equal to null.
                let value = match value {
                    None | Some(RawBsonRef::Undefined) => RawBsonRef::Null,
                    Some(value) => value,
                };
                contains(wanted, value)
            }
        }
    }
}

/// Looks for a value in sorted values.
fn contains(sorted: &[RawBson], value: RawBsonRef<'_>) -> Result<bool, Malformed> {
    let (mut from, mut to) = (0, sorted.len());
    while from < to {
        let middle = usize::midpoint(from, to);
        match compare(sorted[middle].as_raw_bson_ref(), value)? {
            Ordering::Less => from = middle + 1,
            Ordering::Greater => to = middle,
            Ordering::Equal => return Ok(true),
        }
    }
    Ok(false)
}

impl Comparison {
    /// Compares a value with the wanted one. Values of different types do not match, except that a missing field is null, and
    /// that every value lies between the smallest and the largest key.
    fn passes(self, value: Option<RawBsonRef<'_>>, wanted: RawBsonRef<'_>) -> Result<bool, Malformed> {
        let with_equality =
            matches!(self, Comparison::Equal | Comparison::GreaterOrEqual | Comparison::LessOrEqual);
        let Some(value) = value.filter(|value| rank(*value) == rank(wanted)) else {
            return Ok(match wanted {
                RawBsonRef::Null => matches!(value, None | Some(RawBsonRef::Undefined)) && with_equality,
                RawBsonRef::MinKey => matches!(self, Comparison::Greater | Comparison::GreaterOrEqual),
                RawBsonRef::MaxKey => matches!(self, Comparison::Less | Comparison::LessOrEqual),
                _ => false,
            });
        };
        if is_nan(value) || is_nan(wanted) {
            return Ok(with_equality && is_nan(value) && is_nan(wanted));
        }
        let order = compare(value, wanted)?;
        Ok(match self {
            Comparison::Equal => order.is_eq(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
        })
    }
}

#[cfg(test)]
mod tests;
