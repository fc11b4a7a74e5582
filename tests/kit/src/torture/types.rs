//! Every BSON type and the odd values of each, as raw bytes. A tool that decodes them changes some of them.

use anyhow::Result;
use bson::doc;
use mongodb::Client;

use super::{Inventory, Kind};
use crate::raw::{binary, document, element, insert, string};

pub(super) async fn fill(client: &Client, made: &mut Inventory) -> Result<()> {
    let database = client.database("types");
    let all = all_types();
    insert(&database, "all", &all).await?;
    made.add("types", "all", Kind::Collection, all.len() as u64);
    let ids = ids();
    insert(&database, "ids", &ids).await?;
    made.add("types", "ids", Kind::Collection, ids.len() as u64);
    database.run_command(doc! { "create": "empty" }).await?;
    made.add("types", "empty", Kind::Collection, 0);
    Ok(())
}

/// Documents whose `_id` names their odd property.
pub fn all_types() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = values()
        .into_iter()
        .map(|(name, kind, value)| document(&[element(2, b"_id", string(&name)), element(kind, b"v", value)]))
        .collect();
    out.push(document(&[
        element(2, b"_id", string("dup_keys")),
        element(16, b"a", int32(1)),
        element(2, b"a", string("two")),
        element(16, b"a", int32(3)),
    ]));
    let inner = document(&[element(16, b"$x", int32(1)), element(16, b". .", int32(2))]);
    out.push(document(&[
        element(2, b"_id", string("odd_keys")),
        element(16, b"", int32(1)),
        element(16, b"a.b", int32(2)),
        element(16, "ключ".as_bytes(), int32(3)),
        element(3, b"n", inner),
    ]));
    // 97 levels with the two levels around it. The server accepts 180, some JSON libraries only 64.
    let mut deep = document(&[element(16, b"leaf", int32(1))]);
    for _ in 0..95 {
        deep = document(&[element(3, b"d", deep)]);
    }
    out.push(document(&[element(2, b"_id", string("deep")), element(3, b"d", deep)]));
    out
}

/// Eleven kinds of `_id`, among them embedded documents that differ only in the order of their keys.
pub fn ids() -> Vec<Vec<u8>> {
    let (a, b) = (element(16, b"a", int32(1)), element(16, b"b", int32(2)));
    let values: [(u8, Vec<u8>); 11] = [
        (16, int32(1)),
        (18, int64(2)),
        (1, double(2.5)),
        (2, string("2")),
        (3, document(&[a.clone(), b.clone()])),
        (3, document(&[b, a])),
        (10, vec![]),
        (5, binary(4, b"abcd")),
        (9, int64(5)),
        (255, vec![]),
        (127, vec![]),
    ];
    values.iter().map(|(kind, value)| document(&[element(*kind, b"_id", value)])).collect()
}

fn values() -> Vec<(String, u8, Vec<u8>)> {
    let oid: Vec<u8> = (0..12).collect();
    let sixteen: Vec<u8> = (0..16).collect();
    let scope = document(&[element(16, b"x", int32(1))]);
    let code = [string("f(x)"), scope].concat();
    let code_with_scope = [int32(code.len() as i32 + 4), code].concat();
    let mut out: Vec<(String, u8, Vec<u8>)> = [
        ("double", 1, double(1.5)),
        ("double_whole", 1, double(3.0)),
        ("neg_zero", 1, double(-0.0)),
        ("nan", 1, double(f64::NAN)),
        ("nan_payload", 1, 0xfff8_0000_0000_0123_u64.to_le_bytes().to_vec()),
        ("inf", 1, double(f64::INFINITY)),
        ("subnormal", 1, double(5e-324)),
        ("string", 2, string("grüße 漢字 😀")),
        ("string_nul", 2, string("a\0b")),
        ("string_empty", 2, string("")),
        ("string_bad_utf8", 2, string(b"\xff\xfe")),
        ("object", 3, document(&[element(2, b"x", string("y"))])),
        ("array", 4, document(&[element(16, b"0", int32(1)), element(16, b"1", int32(2))])),
        ("array_bad_keys", 4, document(&[element(16, b"7", int32(1)), element(16, b"x", int32(2))])),
        ("bin_2", 5, binary(2, &[&int32(4)[..], b"abcd"].concat())),
        ("undefined", 6, vec![]),
        ("oid", 7, oid.clone()),
        ("bool_t", 8, vec![1]),
        ("bool_f", 8, vec![0]),
        ("date", 9, int64(1_700_000_000_123)),
        ("date_neg", 9, int64(-62_135_596_800_000)),
        ("date_far", 9, int64(1 << 62)),
        ("null", 10, vec![]),
        ("regex", 11, b"^a.*b$\0imsx\0".to_vec()),
        ("dbpointer", 12, [string("db.c"), oid].concat()),
        ("js", 13, string("function(){return 1}")),
        ("symbol", 14, string("sym")),
        ("code_w_scope", 15, code_with_scope),
        ("int32", 16, int32(i32::MIN)),
        ("timestamp", 17, ((1_700_000_000_u64 << 32) | 7).to_le_bytes().to_vec()),
        ("int64", 18, int64(i64::MIN)),
        ("dec", 19, decimal("1.10")),
        ("dec_nan", 19, decimal("NaN")),
        ("dec_inf", 19, decimal("-Infinity")),
        ("dec_big", 19, decimal("9.999999999999999999999999999999999E+6144")),
        ("dec_zero", 19, decimal("-0E-3")),
        ("minkey", 255, vec![]),
        ("maxkey", 127, vec![]),
    ]
    .into_iter()
    .map(|(name, kind, value)| (name.to_owned(), kind, value))
    .collect();
    out.extend([0, 1, 3, 4, 5, 128].map(|subtype| (format!("bin_{subtype}"), 5, binary(subtype, &sixteen))));
    out
}

fn int32(n: i32) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

fn int64(n: i64) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

fn double(x: f64) -> Vec<u8> {
    x.to_le_bytes().to_vec()
}

fn decimal(text: &str) -> Vec<u8> {
    text.parse::<bson::Decimal128>().expect("a decimal of this file").bytes().to_vec()
}
