use super::*;

fn load(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Result<Layers> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, file).unwrap();
    let flags = flags.iter().map(|(k, v)| (*k, Raw::Text(v.to_string()))).collect();
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
    Layers::load(flags, &env, Some(&path))
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let layers = load(
        &[("engine", "native")],
        &[("BACKUP_ENGINE", "mongodump"), ("BACKUP_FORMAT", "tar.zst")],
        "engine = 'auto'\nformat = 'archive.gz'\njob = 'file'\n",
    )
    .unwrap();
    assert_eq!(layers.text("engine"), Some("native"));
    assert_eq!(layers.text("format"), Some("tar.zst"));
    assert_eq!(layers.text("job"), Some("file"));
    assert_eq!(layers.text("retention_days"), Some("30"));
    assert_eq!(layers.origin("format"), Some(&Origin::Environment("BACKUP_FORMAT".into())));
    assert!(!layers.is_set("retention_days"));
}

#[test]
fn values_are_taken_literally() {
    for value in ["a$HOME", "a\nb", "$(id)", "ü'\"\\", " spaced "] {
        let layers = load(&[], &[("BACKUP_JOB", value)], "").unwrap();
        assert_eq!(layers.text("job"), Some(value));
    }
}

#[test]
fn secrets_may_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uri");
    std::fs::write(&path, "mongodb://u:p$w@h\n").unwrap();
    let path = path.to_str().unwrap();
    let layers = load(&[], &[("MONGO_URI_FILE", path)], "").unwrap();
    assert_eq!(layers.text("mongo_uri"), Some("mongodb://u:p$w@h"));
    let both = load(&[], &[("MONGO_URI_FILE", path), ("MONGO_URI", "mongodb://x")], "").unwrap_err();
    assert!(both.to_string().contains("MONGO_URI_FILE"), "{both}");
    let gone = load(&[], &[("MONGO_URI_FILE", "/nonexistent")], "").unwrap_err();
    assert!(gone.to_string().contains("MONGO_URI_FILE"), "{gone}");
    assert!(gone.next_step().unwrap().starts_with("Create that file"), "{:?}", gone.next_step());
    std::fs::write(path, "\n").unwrap();
    let empty = load(&[], &[("MONGO_URI_FILE", path)], "").unwrap_err();
    assert!(empty.to_string().ends_with("which MONGO_URI_FILE names, is empty"), "{empty}");
}

#[test]
fn an_empty_variable_is_named() {
    let error = load(&[], &[("S3_BACKUP_BUCKET", "")], "").unwrap_err();
    assert!(error.to_string().contains("S3_BACKUP_BUCKET"), "{error}");
    assert!(load(&[], &[("AWS_REGION", "")], "").is_ok());
    let env = |name: &str| (name == "UZIMA_BACKUP_CONFIG").then(Default::default);
    let error = Layers::load(BTreeMap::new(), &env, None).unwrap_err();
    assert!(error.to_string().contains("UZIMA_BACKUP_CONFIG"), "{error}");
}

#[test]
fn shown_values_hide_secrets() {
    let env = [("MONGO_URI", "mongodb://u:hunter2@h/db"), ("AWS_SECRET_ACCESS_KEY", "hunter3")];
    let layers = load(&[], &env, "").unwrap();
    let shown = format!("{:?}", layers.shown());
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("mongodb://u:***@h/db"), "{shown}");
    for (value, want) in
        [("off", "off"), ("mongodb://u:hunter2@h", "mongodb://u:***@h"), ("u:hunter2@h", "(hidden)")]
    {
        let layers = load(&[], &[("BACKUP_RECORDS", value)], "").unwrap();
        let shown = layers.shown().into_iter().find(|(setting, ..)| setting.key == "records");
        assert_eq!(shown.unwrap().1, want);
    }
}

#[test]
fn the_next_step_of_a_wrong_value_names_its_origin() {
    let step = |layers: &Layers, key| layers.wrong(key, "no").next_step().unwrap().to_string();
    let layers = load(
        &[("databases", "x"), ("compression_level", "99")],
        &[("BACKUP_RETENTION_DAYS", "0")],
        "job = '/'\n",
    );
    let layers = layers.unwrap();
    assert_eq!(step(&layers, "databases"), "Correct --db, or leave it out");
    assert_eq!(step(&layers, "compression_level"), "Correct --level, or leave it out");
    assert_eq!(step(&layers, "retention_days"), "Correct BACKUP_RETENTION_DAYS; the default is 30 days");
    let of_file = step(&layers, "job");
    assert!(
        of_file.starts_with("Correct job in /") && of_file.ends_with("c.toml, or leave it out"),
        "{of_file}"
    );
    let error = layers.wrong("compression_level", "no");
    assert_eq!(error.to_string(), "compression_level = '99' (the flag --level): no");
}
