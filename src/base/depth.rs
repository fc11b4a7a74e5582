//! How deeply BSON may be nested. Code that follows nested documents by recursion would end the process when the stack is
//! full, so foreign documents are checked here first, without recursion.

use bson::{RawBsonRef, RawDocument};

/// The deepest nesting that is followed. A server accepts 200 levels by default, and at most 250 (its parameter
/// `maxBSONDepth`); an answer wraps a document in a few more.
pub const DEEPEST: usize = 256;

/// Checks that a document is not nested deeper than [`DEEPEST`] levels. What is not BSON in it is not an error here.
///
/// # Errors
/// Returns an error that says so if it is.
pub fn check(document: &RawDocument) -> Result<(), String> {
    let mut open = vec![document.iter()];
    while let Some(fields) = open.last_mut() {
        let inner = match fields.next() {
            None => {
                open.pop();
                continue;
            }
            Some(Ok((_, RawBsonRef::Document(inner)))) => inner,
            Some(Ok((_, RawBsonRef::Array(inner)))) => match RawDocument::from_bytes(inner.as_bytes()) {
                Ok(inner) => inner,
                Err(_) => continue,
            },
            Some(Ok((_, RawBsonRef::JavaScriptCodeWithScope(code)))) => code.scope,
            Some(_) => continue,
        };
        if open.len() == DEEPEST {
            return Err(format!(
                "it is nested deeper than {DEEPEST} levels, and no MongoDB server takes such a document"
            ));
        }
        open.push(inner.iter());
    }
    Ok(())
}

/// The same of a value.
///
/// # Errors
/// Returns an error that says so if it is nested deeper.
pub fn check_value(value: RawBsonRef<'_>) -> Result<(), String> {
    match value {
        RawBsonRef::Document(document) => check(document),
        RawBsonRef::Array(items) => RawDocument::from_bytes(items.as_bytes()).map_or(Ok(()), check),
        RawBsonRef::JavaScriptCodeWithScope(code) => check(code.scope),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    /// A document whose innermost one is the `levels`th; `kind` is the BSON type of each field, 3 or 4.
    pub fn nested(levels: usize, kind: u8) -> RawDocumentBuf {
        let mut bytes = Vec::with_capacity(8 * levels);
        for level in 0..levels {
            let len = 5 + 8 * (levels - 1 - level);
            bytes.extend_from_slice(&(len as i32).to_le_bytes());
            if level + 1 < levels {
                bytes.extend_from_slice(&[kind, b'0', 0]);
            }
        }
        bytes.resize(bytes.len() + levels, 0);
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn deep_documents_and_arrays_are_refused_at_any_depth() {
        for kind in [3, 4] {
            for (levels, right) in
                [(1, true), (200, true), (DEEPEST, true), (DEEPEST + 1, false), (2_000_000, false)]
            {
                let document = nested(levels, kind);
                assert_eq!(check(&document).is_ok(), right, "{levels} levels of type {kind}");
            }
        }
        let mut outer = RawDocumentBuf::new();
        outer.append(bson::raw::cstr!("a"), 1);
        outer.append(bson::raw::cstr!("deep"), nested(DEEPEST, 3));
        assert!(check(&outer).unwrap_err().contains("256 levels"));
        assert!(check_value(RawBsonRef::Document(&outer)).is_err() && check_value(RawBsonRef::Null).is_ok());
    }
}
