use std::os::unix::fs::symlink;

use tar::{Builder, EntryType, Header};

use super::*;

/// A member of a tar: its path, its kind, and its content or target.
type TarMember<'a> = (&'a str, EntryType, &'a str);

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Link;

fn tar(members: &[TarMember<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, text) in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // Written directly, because `set_path` refuses paths that lead out of the tar.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let content = if *kind == FILE { text } else { "" };
        if *kind != FILE {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The content of each file of a tar, by `db/stem`, or why the tar is refused.
fn contents(tar: &[u8]) -> Result<BTreeMap<String, String>> {
    let files = in_tar(tar, &mut |_, _, _| Ok(()))?;
    let (all, mut out) = (files.iter().collect::<Vec<_>>(), BTreeMap::new());
    let raw = tar.to_vec();
    read(&all, &|| Ok(Box::new(std::io::Cursor::new(raw.clone()))), &mut |(db, stem, _), file| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        out.insert(format!("{db}/{stem}"), text);
        Ok(())
    })?;
    Ok(out)
}

#[track_caller]
fn holds(members: &[TarMember<'_>], want: &[(&str, &str)]) {
    let want = want.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    assert_eq!(contents(&tar(members)).unwrap(), want);
}

#[track_caller]
fn refused(members: &[TarMember<'_>], words: &[&str]) {
    let error = contents(&tar(members)).unwrap_err();
    let text = error.chain();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(error.next_step().is_some(), "{text}");
}

#[test]
fn the_last_member_with_a_path_counts() {
    holds(
        &[
            ("dump/shop/a.bson", FILE, "old"),
            ("dump/shop/b.bson", FILE, "b"),
            ("./dump//shop/./a.bson", FILE, "new"),
        ],
        &[("shop/a", "new"), ("shop/b", "b")],
    );
    holds(
        &[
            ("dump/oplog.bson", FILE, "old"),
            ("dump/shop/a.bson", FILE, "a"),
            ("dump/oplog.bson", FILE, "new"),
        ],
        &[("/oplog", "new"), ("shop/a", "a")],
    );
}

#[test]
fn two_files_for_one_part_of_a_dump_are_refused() {
    refused(&[("d/shop/a.bson", FILE, ""), ("d/shop/a.bson.gz", FILE, "")], &["a.bson and d/shop/a.bson.gz"]);
    refused(
        &[("monday/shop/a.bson", FILE, ""), ("tuesday/shop/a.bson", FILE, "")],
        &["more than one dump", "monday/shop/a.bson", "tuesday/shop/a.bson"],
    );
    refused(
        &[("monday/shop/a.bson", FILE, ""), ("tuesday/oplog.bson", FILE, "")],
        &["more than one dump", "tuesday/oplog.bson"],
    );
}

#[test]
fn an_oplog_is_distinguished_from_a_collection_named_oplog() {
    holds(
        &[("d/oplog/oplog.bson", FILE, "c"), ("d/oplog.bson", FILE, "o"), ("d/shop/a.bson", FILE, "a")],
        &[("oplog/oplog", "c"), ("/oplog", "o"), ("shop/a", "a")],
    );
    holds(
        &[("oplog.bson", FILE, "o"), ("shop/oplog.bson", FILE, "c"), ("shop/a.bson", FILE, "a")],
        &[("/oplog", "o"), ("shop/oplog", "c"), ("shop/a", "a")],
    );
}

#[test]
fn hard_links_are_followed() {
    holds(
        &[
            ("pool/1", FILE, "one"),
            ("dump/shop/a.bson", LINK, "pool/1"),
            ("dump/shop/b.bson", LINK, "./dump/shop/a.bson"),
            ("dump/blog/c.bson", FILE, "two"),
            ("dump/shop/c.bson", LINK, "dump/blog/c.bson"),
        ],
        &[("shop/a", "one"), ("shop/b", "one"), ("blog/c", "two"), ("shop/c", "two")],
    );
    // `tar x` makes a new file in the place of the target: the link keeps the old one.
    holds(
        &[
            ("d/shop/a.bson", FILE, "old"),
            ("d/shop/b.bson", LINK, "d/shop/a.bson"),
            ("d/shop/a.bson", FILE, "new"),
            ("d/shop/c.bson", LINK, "d/shop/a.bson"),
        ],
        &[("shop/a", "new"), ("shop/b", "old"), ("shop/c", "new")],
    );
    refused(&[("d/shop/b.bson", LINK, "d/shop/a.bson")], &["d/shop/b.bson", "hard link to d/shop/a.bson"]);
    let later = [("d/shop/b.bson", LINK, "d/shop/a.bson"), ("d/shop/a.bson", FILE, "")];
    refused(&later, &["d/shop/b.bson", "no earlier member"]);
}

#[test]
fn members_that_are_not_files_are_refused_by_name() {
    for (kind, word) in [
        (EntryType::Symlink, "soft link"),
        (EntryType::Fifo, "named pipe"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::new(b'M'), "neither a file"),
    ] {
        refused(&[("d/shop/a.bson", FILE, ""), ("d/shop/b.bson", kind, "")], &["d/shop/b.bson", word]);
    }
    // A soft link may also stand for the folder of a database.
    refused(&[("d/shop", EntryType::Symlink, "elsewhere")], &["d/shop", "soft link"]);
}

#[test]
fn paths_that_lead_out_of_the_tar_are_refused() {
    refused(&[("/d/shop/a.bson", FILE, "")], &["/d/shop/a.bson", "leads out"]);
    refused(&[("d/../shop/a.bson", FILE, "")], &["d/../shop/a.bson", "leads out"]);
    refused(&[("d/a.bson", LINK, "/etc/passwd")], &["/etc/passwd", "leads out"]);
}

#[test]
fn a_second_tar_behind_the_first_is_found() {
    let one = tar(&[("d/shop/a.bson", FILE, "a")]);
    let error = contents(&[one.clone(), one.clone()].concat()).unwrap_err();
    assert!(error.to_string().contains("follows the end"), "{error}");
    assert!(contents(&[one, vec![0; 20_000]].concat()).is_ok());
}

/// GNU tar stores the holes of a file in a form of its own (`--sparse`).
#[test]
fn sparse_files_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/shop")).unwrap();
    let mut content = vec![0; 1 << 20];
    content.extend(b"end");
    let file = std::fs::File::create(dir.path().join("d/shop/a.bson")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 1 << 20).unwrap();
    for (format, whole) in [("gnu", true), ("posix", false)] {
        let path = dir.path().join("x.tar");
        let mut command = std::process::Command::new("tar");
        command.args(["--sparse", "--format", format, "-C"]).arg(dir.path()).arg("-cf").arg(&path).arg("d");
        assert!(command.status().unwrap().success());
        let raw = std::fs::read(&path).unwrap();
        assert!(raw.len() < 100_000, "{format}: the tar has no hole");
        match contents(&raw) {
            Ok(found) => assert!(whole && found["shop/a"].as_bytes() == content, "{format}"),
            Err(error) => {
                assert!(!whole && error.to_string().contains("d/shop/a.bson is a sparse"), "{error}")
            }
        }
    }
}

#[test]
fn long_names_are_read_whole() {
    let stem = "x".repeat(230);
    for format in ["gnu", "posix"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d").join("y".repeat(60));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{stem}.bson")), "one").unwrap();
        std::fs::hard_link(folder.join(format!("{stem}.bson")), folder.join(format!("{stem}2.bson")))
            .unwrap();
        let path = dir.path().join("x.tar");
        let mut command = std::process::Command::new("tar");
        command.args(["--format", format, "-C"]).arg(dir.path()).arg("-cf").arg(&path).arg("d");
        assert!(command.status().unwrap().success());
        let found = contents(&std::fs::read(&path).unwrap()).unwrap();
        let names = ["", "2"].map(|end| format!("{}/{stem}{end}", "y".repeat(60)));
        assert_eq!(found, names.map(|name| (name, "one".to_string())).into());
    }
}

#[test]
fn a_folder_follows_soft_links_and_refuses_other_special_files() {
    let dir = tempfile::tempdir().unwrap();
    let (root, pool) = (dir.path().join("dump"), dir.path().join("pool"));
    std::fs::create_dir_all(root.join("shop")).unwrap();
    std::fs::create_dir_all(pool.join("blog")).unwrap();
    std::fs::write(pool.join("1"), "one").unwrap();
    std::fs::write(pool.join("blog/b.bson"), "two").unwrap();
    symlink(pool.join("1"), root.join("shop/a.bson")).unwrap();
    symlink(pool.join("blog"), root.join("blog")).unwrap();
    let names: Vec<String> =
        in_folder(&root).unwrap().into_keys().map(|(db, stem, _)| format!("{db}/{stem}")).collect();
    assert_eq!(names, ["blog/b", "shop/a"]);
    let refused = |at: &Path, word: &str| {
        let error = in_folder(&root).unwrap_err().chain();
        assert!(error.contains(&at.display().to_string()) && error.contains(word), "{error}");
        std::fs::remove_file(at).or_else(|_| std::fs::remove_dir(at)).unwrap();
    };
    let at = root.join("shop/c.bson");
    symlink("nowhere", &at).unwrap();
    refused(&at, "without a target");
    symlink("c.bson", &at).unwrap();
    refused(&at, "without a target");
    rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&at, "named pipe");
    symlink("/dev/null", &at).unwrap();
    refused(&at, "device");
    std::fs::create_dir(&at).unwrap();
    refused(&at, "is a directory");
    symlink("nowhere", root.join("news")).unwrap();
    refused(&root.join("news"), "without a target");
    std::fs::write(root.join("shop/a.bson.gz"), "").unwrap();
    refused(&root.join("shop/a.bson.gz"), "are the same part");
    assert_eq!(in_folder(&root).unwrap().len(), 2);
}

#[test]
fn paths_of_a_dump_are_parsed() {
    let parsed = |root: &str, db: &str, stem: &str, part, zipped| {
        Some(Parsed { root: root.into(), name: (db.into(), stem.into(), part), zipped })
    };
    for (path, want) in [
        ("shop/a.bson", parsed("", "shop", "a", FilePart::Documents, false)),
        ("x/dump/shop/a%2Fb.metadata.json.gz", parsed("x/dump", "shop", "a%2Fb", FilePart::Metadata, true)),
        ("shop/a.bson.gz", parsed("", "shop", "a", FilePart::Documents, true)),
        ("oplog.bson", parsed("", "", "oplog", FilePart::Documents, false)),
        ("oplog.bson.gz", parsed("", "", "oplog", FilePart::Documents, true)),
        ("shop.bson", None),
        ("shop/notes.txt", None),
        ("shop/._a.bson", None),
        ("dump/prelude.json", None),
    ] {
        assert_eq!(parse(path), want, "{path}");
    }
    assert_eq!(unescape("a+b%2Fc%C3%BC").unwrap(), "a b/cü");
}

fn of(all: &[(&str, &str)]) -> BTreeMap<(String, String), String> {
    all.iter().map(|(stem, text)| (("d".to_string(), stem.to_string()), text.to_string())).collect()
}

fn stems(all: &[&str]) -> Vec<(String, String)> {
    all.iter().map(|stem| ("d".to_string(), stem.to_string())).collect()
}

#[test]
fn files_are_assigned_to_their_namespaces() {
    let texts = of(&[
        ("w", r#"{"options":{"timeseries":{"timeField":"t"}},"collectionName":"w"}"#),
        ("v", r#"{"options":{"viewOn":"c","pipeline":[]},"collectionName":"v"}"#),
    ]);
    let files = stems(&["c", "system.buckets.w"]);
    let found = namespaces(&texts, &files).unwrap();
    let names: Vec<&str> = found.all.iter().map(|n| n.collection.as_str()).collect();
    assert_eq!(names, ["v", "w", "c"]);
    assert_eq!([&files[0], &files[1]].map(|file| found.of_file[file]), [2, 1]);
    assert!(namespaces(&texts, &files[..1]).is_err(), "the documents of w are missing");
    assert!(namespaces(&BTreeMap::new(), &files).is_err(), "nobody knows what w was");
    let both = namespaces(&texts, &stems(&["c", "system.buckets.w", "w"])).map(|_| ()).unwrap_err();
    assert!(both.to_string().contains("both contain the documents of d.w"), "{both}");
}

/// mongorestore takes the name of the file, so a file that was renamed is another collection.
#[test]
fn a_collection_has_the_name_of_its_file_unless_that_name_was_cut() {
    let long = "x/".repeat(100);
    let cut = names::escape(&long);
    let texts =
        of(&[("b", r#"{"collectionName":"a"}"#), (&cut, &format!(r#"{{"collectionName":"{long}"}}"#))]);
    let found = namespaces(&texts, &stems(&["b", &cut])).unwrap();
    let names: Vec<&str> = found.all.iter().map(|n| n.collection.as_str()).collect();
    assert_eq!(names, ["b", long.as_str()]);
    let twice = namespaces(&of(&[]), &stems(&["a%2fb", "a%2Fb"])).map(|_| ()).unwrap_err();
    assert!(twice.to_string().contains("d.a/b"), "{twice}");
}
