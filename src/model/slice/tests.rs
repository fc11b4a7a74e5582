use super::*;

const SET: &str = "6563a1b2c3d4e5f60718293a";

pub fn mark(t: u32) -> EntryMark {
    let at = OpTime { t, i: 1 };
    EntryMark { at, term: 1, blake3: Some(blake3::hash(&t.to_le_bytes()).to_hex().to_string()) }
}

/// A slice without entries of the chain that starts at 100.
pub fn slice(start: u32, end: u32) -> SliceManifest {
    let first = start == 100;
    SliceManifest {
        format: FORMAT,
        job: "nightly".into(),
        chain: ChainId::new(SET, OpTime { t: 100, i: 1 }).unwrap(),
        start: OpTime { t: start, i: 1 },
        after: (!first).then(|| mark(start)),
        end: mark(end),
        tool: "uzima-backup 0.0.0".into(),
        host: "db1".into(),
        stored_at: "2026-11-23T03:00:00Z".parse().unwrap(),
        member: "db1:27017".into(),
        version: "6.0.5".into(),
        set_name: Some("rs0".into()),
        selection: SelectionAsked::default(),
        encryption: None,
        entries: 0,
        raw_bytes: 0,
        read_entries: 1,
        body: None,
        events: None,
        barriers: vec![],
        gap: None,
        signature: None,
    }
}

#[test]
fn the_name_of_a_chain_reads_back_and_sorts_by_start() {
    let id = ChainId::new(SET, OpTime { t: 100, i: 7 }).unwrap();
    assert_eq!(id.to_string(), format!("{SET}-0000000100.0000000007"));
    assert_eq!(id.to_string().parse::<ChainId>().unwrap(), id);
    let later = ChainId::new("0000a1b2c3d4e5f60718293a", OpTime { t: 101, i: 1 }).unwrap();
    assert!(id < later);
    for wrong in ["", SET, "6563a1b2c3d4e5f60718293A-0000000100.0000000007", "../x-0000000100.0000000007"] {
        assert!(wrong.parse::<ChainId>().is_err(), "{wrong}");
    }
}

#[test]
fn a_slice_reads_back_and_one_that_contradicts_itself_is_refused() {
    for good in [slice(100, 110), slice(110, 120)] {
        assert_eq!(SliceManifest::decode(&good.encode().unwrap()), Ok(good));
    }
    let broken = |change: fn(&mut SliceManifest)| {
        let mut slice = slice(110, 120);
        change(&mut slice);
        SliceManifest::decode(&slice.encode().unwrap()).unwrap_err()
    };
    assert!(broken(|s| s.end = mark(110)).contains("ends before"));
    assert!(broken(|s| s.after = Some(mark(109))).contains("not at its start"));
    assert!(broken(|s| s.after = None).contains("does not fit its chain"));
    assert!(broken(|s| s.start = OpTime { t: 99, i: 1 }).contains("not at its start"));
    assert!(broken(|s| s.entries = 1).contains("counts"));
    assert!(broken(|s| s.end.blake3 = Some("x".into())).contains("hexadecimal"));
    assert!(broken(|s| s.end.blake3 = None).contains("lacks a hash"));
    assert!(broken(|s| s.encryption = Some(encryption())).contains("no events object"));
    assert!(broken(|s| s.format = 2).contains("newer uzima-backup"));
    let barrier = |t| Barrier { at: OpTime { t, i: 1 }, why: "x".into() };
    let mut unsorted = slice(110, 120);
    unsorted.barriers = vec![barrier(118), barrier(115)];
    assert!(SliceManifest::decode(&unsorted.encode().unwrap()).unwrap_err().contains("out of order"));
}

#[test]
fn a_change_of_any_bit_of_a_slice_is_found() {
    let whole = slice(110, 120).encode().unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&whole).unwrap()["sum"].as_str().unwrap().len(),
        64
    );
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[place] ^= 1 << bit;
            assert!(SliceManifest::decode(&changed).is_err(), "bit {bit} of byte {place}");
        }
        assert!(SliceManifest::decode(&whole[..place]).is_err());
    }
}

#[test]
fn a_slice_continues_only_the_slice_whose_last_entry_it_starts_with() {
    let (first, second) = (slice(100, 110), slice(110, 120));
    assert!(second.continues(&first) && !first.continues(&second));
    let mut other = second.clone();
    other.after.as_mut().unwrap().term = 2;
    assert!(!other.continues(&first));
    other = second.clone();
    other.after.as_mut().unwrap().blake3 = mark(111).blake3;
    assert!(!other.continues(&first));
    // The chain of a job whose encryption was switched on, or off.
    assert!(second.readable().continues(&first) && second.continues(&first.readable()));
    other.after.as_mut().unwrap().term = 2;
    assert!(!other.readable().continues(&first));
}

fn encryption() -> SliceEncryption {
    SliceEncryption { header_length: 0, recipients: vec!["ab".into()], selection_mark: "cd".into() }
}

#[test]
fn an_encrypted_slice_shows_no_name_and_no_hash_of_entries() {
    let mut whole = slice(110, 120);
    whole.selection.databases = vec!["canary".into()];
    whole.barriers = vec![Barrier { at: whole.end.at, why: "canary was imported".into() }];
    whole.encryption = Some(encryption());
    let events = SliceEvents { key: "k".into(), size: 1, blake3: mark(1).blake3.unwrap() };
    let inner = whole.clone();
    whole.events = Some(events);
    let readable = whole.readable();
    let text = String::from_utf8(readable.encode().unwrap()).unwrap();
    for hidden in [
        "canary",
        whole.end.blake3.as_deref().unwrap(),
        whole.after.as_ref().unwrap().blake3.as_deref().unwrap(),
    ] {
        assert!(!text.contains(hidden), "{text}");
    }
    assert_eq!(SliceManifest::decode(text.as_bytes()), Ok(readable.clone()));
    assert!(readable.hides_details() && !whole.hides_details());
    let mut file = EventsFile { slice: Some(Box::new(inner)), ..EventsFile::default() };
    assert_eq!(file.clone().take_slice(&readable), Ok(whole));
    let changed = SliceManifest { entries: 5, ..readable.clone() };
    assert!(file.clone().take_slice(&changed).unwrap_err().contains("was changed"));
    file.slice = None;
    assert!(file.take_slice(&readable).unwrap_err().contains("no manifest"));
}
