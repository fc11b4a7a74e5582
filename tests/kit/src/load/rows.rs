//! Generates single documents.

use bson::{DateTime, RawArrayBuf, oid::ObjectId, rawdoc};

use super::words::{SYLLABLES, WORDS};

/// SplitMix64 (Steele, Lea, Flood 2014). Unlike the `rand` crate, it gives the same numbers in every version.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 8);
        while out.len() < count {
            out.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        out.truncate(count);
        out
    }

    /// A word. Words at the beginning of the list are more frequent, as in a language.
    pub fn word(&mut self) -> &'static str {
        let n = WORDS.len() as u64;
        let (a, b) = (self.below(n), self.below(n));
        WORDS[(a * b / n) as usize]
    }

    /// A name. A language has far more names than common words.
    pub fn name(&mut self) -> String {
        (0..2 + self.below(2)).map(|_| SYLLABLES[self.below(SYLLABLES.len() as u64) as usize]).collect()
    }

    /// A sentence of that many words, about one in six a name.
    pub fn text(&mut self, words: u64) -> String {
        let mut out = String::with_capacity(words as usize * 7);
        for n in 0..words {
            if n > 0 {
                out.push(' ');
            }
            match self.below(6) {
                0 => out.push_str(&self.name()),
                _ => out.push_str(self.word()),
            }
        }
        out
    }

    fn object_id(&mut self, seconds: u32) -> ObjectId {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&self.next_u64().to_be_bytes());
        ObjectId::from_bytes(bytes)
    }
}

/// 2026-01-01T00:00:00Z.
const START: u32 = 1_767_225_600;

/// Orders of a shop, about 700 bytes each; the same seed gives the same orders.
pub struct Orders {
    random: Random,
    number: u32,
}

impl Orders {
    pub fn new(seed: u64) -> Self {
        Orders { random: Random::new(seed), number: 0 }
    }

    pub fn next_document(&mut self) -> Vec<u8> {
        let r = &mut self.random;
        self.number += 1;
        let placed = START + self.number * 7 + r.below(7) as u32;
        let mut items = RawArrayBuf::new();
        let mut total = 0;
        for _ in 0..2 + r.below(3) {
            let (quantity, cents) = (1 + r.below(5) as i32, 99 + r.below(20_000) as i32);
            total += quantity * cents;
            items.push(rawdoc! {
                "sku": format!("{:012X}", r.below(1 << 48)),
                "title": r.text(3),
                "quantity": quantity,
                "price": f64::from(cents) / 100.0,
            });
        }
        let (first, last, house) = (r.name(), r.name(), r.below(200) as i32);
        let status = ["new", "paid", "packed", "shipped", "returned"][r.below(5) as usize];
        let words = 34 + r.below(24);
        let note = r.text(words);
        rawdoc! {
            "_id": r.object_id(placed),
            "number": self.number as i32,
            "customer": {
                "name": format!("{first} {last}"),
                "email": format!("{first}.{last}{}@example.org", r.below(10_000)),
                "address": { "street": format!("{} {house}", r.name()), "city": r.name() },
            },
            "placed": DateTime::from_millis(i64::from(placed) * 1000 + r.below(1000) as i64),
            "status": status,
            "items": items,
            "total": f64::from(total) / 100.0,
            "note": note,
        }
        .into_bytes()
    }
}

/// A row of `notes`.
pub fn note(random: &mut Random, id: u64) -> Vec<u8> {
    let words = 6 + random.below(12);
    rawdoc! { "_id": id as i64, "text": random.text(words) }.into_bytes()
}

/// A row of `events`.
pub fn event(random: &mut Random, id: u64) -> Vec<u8> {
    let at = START + id as u32;
    let level = ["info", "info", "info", "warning", "error"][random.below(5) as usize];
    rawdoc! {
        "_id": random.object_id(at),
        "at": DateTime::from_millis(i64::from(at) * 1000),
        "level": level,
        "message": random.text(5),
    }
    .into_bytes()
}
