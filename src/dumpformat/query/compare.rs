//! The order of BSON values, as the server compares and sorts them. Source: MongoDB, `src/mongo/bson/bsonelement.cpp`
//! (`compareElements`, `canonicalizeBSONType`). Strings are compared byte by byte, as without a collation.

use std::cmp::Ordering;

use bson::{Decimal128, RawArray, RawBsonRef, RawDocument};

use super::Malformed;

/// The digits after the point that show every double exactly: the smallest one has 767 significant digits.
const EXACT_DIGITS: usize = 766;

/// The exponent of a decimal is stored with this bias.
const BIAS: i32 = 6176;

/// The largest coefficient of a decimal. A larger one counts as zero.
const LARGEST_COEFFICIENT: u128 = 10_u128.pow(34) - 1;

/// The rank of a value's type in the order of all values. Types that are compared with each other have the same rank.
pub(super) fn rank(value: RawBsonRef<'_>) -> u8 {
    match value {
        RawBsonRef::MinKey => 0,
        RawBsonRef::Undefined => 1,
        RawBsonRef::Null => 5,
        RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_) | RawBsonRef::Decimal128(_) => 10,
        RawBsonRef::String(_) | RawBsonRef::Symbol(_) => 15,
        RawBsonRef::Document(_) => 20,
        RawBsonRef::Array(_) => 25,
        RawBsonRef::Binary(_) => 30,
        RawBsonRef::ObjectId(_) => 35,
        RawBsonRef::Boolean(_) => 40,
        RawBsonRef::DateTime(_) => 45,
        RawBsonRef::Timestamp(_) => 47,
        RawBsonRef::RegularExpression(_) => 50,
        RawBsonRef::DbPointer(_) => 55,
        RawBsonRef::JavaScriptCode(_) => 60,
        RawBsonRef::JavaScriptCodeWithScope(_) => 65,
        RawBsonRef::MaxKey => 127,
    }
}

/// Returns true for a double or decimal that is not a number.
pub(super) fn is_nan(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Double(number) => number.is_nan(),
        RawBsonRef::Decimal128(number) => matches!(Exact::of_decimal(number), Exact::Nan),
        _ => false,
    }
}

/// Compares two values. NaN is equal to NaN, and less than every other number.
///
/// # Errors
/// Returns an error if a value is not BSON.
pub(super) fn compare(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> Result<Ordering, Malformed> {
    use RawBsonRef as Value;
    let ranks = rank(left).cmp(&rank(right));
    if ranks != Ordering::Equal {
        return Ok(ranks);
    }
    Ok(match (left, right) {
        (Value::Document(left), Value::Document(right)) => return compare_documents(left, right),
        (Value::Array(left), Value::Array(right)) => return compare_arrays(left, right),
        (Value::JavaScriptCodeWithScope(left), Value::JavaScriptCodeWithScope(right)) => {
            match left.code.as_bytes().cmp(right.code.as_bytes()) {
                Ordering::Equal => return compare_documents(left.scope, right.scope),
                order => order,
            }
        }
        (Value::String(left) | Value::Symbol(left), Value::String(right) | Value::Symbol(right)) => {
            left.as_bytes().cmp(right.as_bytes())
        }
        (Value::JavaScriptCode(left), Value::JavaScriptCode(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Binary(left), Value::Binary(right)) => {
            // The old subtype stores its length once more.
            let key = |binary: bson::RawBinaryRef<'_>| {
                let subtype = u8::from(binary.subtype);
                (binary.bytes.len() + if subtype == 2 { 4 } else { 0 }, subtype)
            };
            key(left).cmp(&key(right)).then_with(|| left.bytes.cmp(right.bytes))
        }
        (Value::ObjectId(left), Value::ObjectId(right)) => left.bytes().cmp(&right.bytes()),
        (Value::Boolean(left), Value::Boolean(right)) => left.cmp(&right),
        (Value::DateTime(left), Value::DateTime(right)) => {
            left.timestamp_millis().cmp(&right.timestamp_millis())
        }
        (Value::Timestamp(left), Value::Timestamp(right)) => {
            (left.time, left.increment).cmp(&(right.time, right.increment))
        }
        (Value::RegularExpression(left), Value::RegularExpression(right)) => {
            let key = |regex: bson::raw::RawRegexRef<'_>| {
                (regex.pattern.as_str().to_string(), regex.options.as_str().to_string())
            };
            key(left).cmp(&key(right))
        }
        (Value::DbPointer(_), Value::DbPointer(_)) => compare_pointers(left, right),
        _ if rank(left) == 10 => compare_numbers(left, right),
        // Null, undefined and the two keys have one value each.
        _ => Ordering::Equal,
    })
}

/// Compares field by field: the type, then the name, then the value. A document is less than a longer one that begins with it.
fn compare_documents(left: &RawDocument, right: &RawDocument) -> Result<Ordering, Malformed> {
    let (mut left, mut right) = (left.iter(), right.iter());
    loop {
        let ((left_key, left), (right_key, right)) = match (left.next(), right.next()) {
            (None, None) => return Ok(Ordering::Equal),
            (None, Some(_)) => return Ok(Ordering::Less),
            (Some(_), None) => return Ok(Ordering::Greater),
            (Some(left), Some(right)) => (left?, right?),
        };
        let names = || left_key.as_str().as_bytes().cmp(right_key.as_str().as_bytes());
        let order = match rank(left).cmp(&rank(right)).then_with(names) {
            Ordering::Equal => compare(left, right)?,
            order => order,
        };
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
}

fn compare_arrays(left: &RawArray, right: &RawArray) -> Result<Ordering, Malformed> {
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ok(Ordering::Equal),
            (None, Some(_)) => return Ok(Ordering::Less),
            (Some(_), None) => return Ok(Ordering::Greater),
            (Some(left), Some(right)) => compare(left?, right?)?,
        };
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
}

/// Compares pointers by their bytes: the length, then the content. The fields of a pointer are private to the bson crate.
fn compare_pointers(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> Ordering {
    let bytes = |value: RawBsonRef<'_>| {
        let mut document = bson::RawDocumentBuf::new();
        document.append(bson::raw::cstr!(""), value);
        document.into_bytes()
    };
    let (left, right) = (bytes(left), bytes(right));
    left.len().cmp(&right.len()).then_with(|| left.cmp(&right))
}

fn compare_numbers(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> Ordering {
    use RawBsonRef as Value;
    let whole = |value: RawBsonRef<'_>| match value {
        Value::Int32(number) => Some(i64::from(number)),
        Value::Int64(number) => Some(number),
        _ => None,
    };
    match (whole(left), whole(right), left, right) {
        (Some(left), Some(right), ..) => left.cmp(&right),
        (None, None, Value::Double(left), Value::Double(right)) => compare_doubles(left, right),
        (Some(left), None, _, Value::Double(right)) => compare_mixed(left, right),
        (None, Some(right), Value::Double(left), _) => compare_mixed(right, left).reverse(),
        _ => Exact::of(left).compare(&Exact::of(right)),
    }
}

fn compare_doubles(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

/// Compares without rounding the whole number.
fn compare_mixed(left: i64, right: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if right.is_nan() || right < -LIMIT {
        Ordering::Greater
    } else if right >= LIMIT {
        Ordering::Less
    } else {
        left.cmp(&(right.trunc() as i64)).then_with(|| compare_doubles(0.0, right.fract()))
    }
}

/// A number without rounding.
#[derive(Debug)]
enum Exact {
    Nan,
    Infinite {
        negative: bool,
    },
    Zero,
    /// 0.`digits` · 10^`point`. The digits begin and end with another digit than 0.
    Finite {
        negative: bool,
        digits: String,
        point: i32,
    },
}

impl Exact {
    fn of(value: RawBsonRef<'_>) -> Exact {
        match value {
            RawBsonRef::Int32(number) => Exact::of_whole(i64::from(number)),
            RawBsonRef::Int64(number) => Exact::of_whole(number),
            RawBsonRef::Double(number) => Exact::of_double(number),
            RawBsonRef::Decimal128(number) => Exact::of_decimal(number),
            _ => Exact::Nan,
        }
    }

    fn of_whole(number: i64) -> Exact {
        Exact::finite(number < 0, &number.unsigned_abs().to_string(), 0)
    }

    fn of_double(number: f64) -> Exact {
        if number.is_nan() {
            return Exact::Nan;
        }
        let negative = number < 0.0;
        if number.is_infinite() {
            return Exact::Infinite { negative };
        }
        let text = format!("{:.EXACT_DIGITS$e}", number.abs());
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        Exact::finite(negative, &digits.replace('.', ""), exponent - EXACT_DIGITS as i32)
    }

    /// The format: IEEE 754, decimal128 with a binary coefficient.
    fn of_decimal(number: Decimal128) -> Exact {
        let bits = u128::from_le_bytes(number.bytes());
        let negative = bits >> 127 == 1;
        match (bits >> 122) & 0x1f {
            0b11111 => return Exact::Nan,
            0b11110 => return Exact::Infinite { negative },
            _ => {}
        }
        let (exponent, coefficient) = match (bits >> 125) & 0b11 {
            // The coefficient would be larger than the largest one.
            0b11 => (0, 0),
            _ => ((bits >> 113) & 0x3fff, bits & ((1 << 113) - 1)),
        };
        let coefficient = if coefficient > LARGEST_COEFFICIENT { 0 } else { coefficient };
        Exact::finite(negative, &coefficient.to_string(), exponent as i32 - BIAS)
    }

    /// `digits` · 10^`exponent`.
    fn finite(negative: bool, digits: &str, exponent: i32) -> Exact {
        let digits = digits.trim_start_matches('0');
        let point = digits.len() as i32 + exponent;
        match digits.trim_end_matches('0') {
            "" => Exact::Zero,
            digits => Exact::Finite { negative, digits: digits.into(), point },
        }
    }

    /// The class of the number: NaN, -Infinity, negative, zero, positive, Infinity.
    fn class(&self) -> u8 {
        match self {
            Exact::Nan => 0,
            Exact::Infinite { negative: true } => 1,
            Exact::Finite { negative: true, .. } => 2,
            Exact::Zero => 3,
            Exact::Finite { negative: false, .. } => 4,
            Exact::Infinite { negative: false } => 5,
        }
    }

    fn compare(&self, other: &Exact) -> Ordering {
        match (self, other) {
            (
                Exact::Finite { negative, digits, point },
                Exact::Finite { negative: other_negative, digits: other_digits, point: other_point },
            ) if negative == other_negative => {
                let order = (point, digits).cmp(&(other_point, other_digits));
                if *negative { order.reverse() } else { order }
            }
            _ => self.class().cmp(&other.class()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawBson, rawbson, rawdoc};

    use super::*;

    fn order(left: &RawBson, right: &RawBson) -> Ordering {
        let there = compare(left.as_raw_bson_ref(), right.as_raw_bson_ref()).unwrap();
        assert_eq!(there.reverse(), compare(right.as_raw_bson_ref(), left.as_raw_bson_ref()).unwrap());
        there
    }

    fn decimal(text: &str) -> RawBson {
        RawBson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn equal_numbers_of_all_types_are_equal() {
        let ones =
            [RawBson::Int32(1), RawBson::Int64(1), RawBson::Double(1.0), decimal("1"), decimal("1.00")];
        let zeros =
            [RawBson::Int32(0), RawBson::Double(-0.0), decimal("-0"), decimal("0E+3"), RawBson::Double(0.0)];
        let nans = [RawBson::Double(f64::NAN), decimal("NaN"), RawBson::Double(-f64::NAN)];
        for same in [&ones[..], &zeros, &nans] {
            for (left, right) in same.iter().flat_map(|left| same.iter().map(move |right| (left, right))) {
                assert_eq!(order(left, right), Ordering::Equal, "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn numbers_of_different_types_are_not_rounded() {
        let rising = [
            RawBson::Double(f64::NAN),
            RawBson::Double(f64::NEG_INFINITY),
            decimal("-1E+6000"),
            RawBson::Double(-1e300),
            RawBson::Int64(i64::MIN),
            decimal("-0.1"),
            RawBson::Double(-0.1),
            decimal("-1E-6000"),
            RawBson::Int32(0),
            RawBson::Double(5e-324),
            decimal("0.1"),
            // The double is a little more than a tenth.
            RawBson::Double(0.1),
            RawBson::Double(9_007_199_254_740_992.0),
            RawBson::Int64(9_007_199_254_740_993),
            decimal("9007199254740993.5"),
            RawBson::Int64(i64::MAX),
            RawBson::Double(9_223_372_036_854_775_808.0),
            decimal("1E+6000"),
            decimal("Infinity"),
        ];
        for (at, left) in rising.iter().enumerate() {
            for (other, right) in rising.iter().enumerate() {
                // -0.1 as a double is a little less than the decimal.
                let swapped = |at| match at {
                    5 => 6,
                    6 => 5,
                    at => at,
                };
                assert_eq!(order(left, right), swapped(at).cmp(&swapped(other)), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn documents_are_compared_by_type_then_name_then_value() {
        let rising: [RawBson; 6] = [
            rawbson!({}),
            rawbson!({"z": 1}),
            rawbson!({"z": 1, "a": 0}),
            rawbson!({"z": 2}),
            rawbson!({"a": "text"}),
            rawbson!([]),
        ];
        for pair in rising.windows(2) {
            assert_eq!(order(&pair[0], &pair[1]), Ordering::Less, "{pair:?}");
        }
        let (short, long) = (rawdoc! {"a": [1, 2]}, rawdoc! {"a": [1, 2, 3]});
        assert_eq!(compare_documents(&short, &long).unwrap(), Ordering::Less);
    }
}
