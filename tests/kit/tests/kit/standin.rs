use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use uzima_testkit::standin::{Ending, Play, StandIn, Via, fixture};

#[test]
fn the_recorded_archives_are_those_of_the_official_tool() -> Result<()> {
    for (name, length) in [("full.archive.gz", 33_631_240), ("oplog.archive.gz", 33_833_350)] {
        let bytes = fixture(name)?;
        assert_eq!((bytes.len(), &bytes[..4]), (length, &[0x6d, 0xe2, 0x99, 0x81][..]), "{name}");
    }
    assert!(fixture("none").is_err());
    Ok(())
}

#[test]
fn the_stand_in_answers_plays_back_and_records() -> Result<()> {
    let archive = fixture("full.archive.gz")?;
    let standin = StandIn::create(&[Play::archive(archive.clone())])?;
    let version = Command::new(standin.program()).arg("--version").env_clear().output()?;
    assert!(version.stdout.starts_with(b"mongodump version: 100.18.0\n"));
    assert_eq!((standin.version_calls(), standin.runs()?.len()), (1, 0));

    // The password comes through a pipe and is quoted, as this project sends it.
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"password: \"p@ss:\\\"w\\\\rd\"\nuri: 'mongodb://it''s/'\n")?;
    drop(writer);
    // SAFETY: clears close-on-exec of a descriptor that lives until the child has ended.
    assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let output = Command::new(standin.program())
        .args(["--config", &format!("/dev/fd/{}", reader.as_raw_fd()), "--archive", "a\nb", ""])
        .env_clear()
        .env("HOME", "/nowhere")
        .output()?;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stdout == archive);
    let run = &standin.runs()?[0];
    assert_eq!(run.argv[2..], ["--archive", "a\nb", ""]);
    assert_eq!(run.config_via, Some(Via::Pipe));
    assert!(run.config_has("password", "p@ss:\"w\\rd"), "{run:?}");
    assert!(run.config_has("uri", "mongodb://it's/") && !run.config_has("password", "other"));
    assert!(run.env_has("HOME", "/nowhere") && !run.env.contains_key("MONGO_URI"));
    assert!(!run.is_alive());
    Ok(())
}

#[test]
fn each_ending_of_a_run_is_imitated() -> Result<()> {
    let bytes = b"0123456789".to_vec();
    let standin = StandIn::create(&[
        Play::archive(bytes.clone()).stop_at(4).stderr("Failed: it").stderr("broke").ending(Ending::Exit(1)),
        Play::archive(bytes.clone()).stop_at(5).ending(Ending::Killed),
        Play::archive(bytes.clone()).stop_at(6),
    ])?;
    let run = || Command::new(standin.program()).arg("--archive").output();
    let failed = run()?;
    assert_eq!((failed.status.code(), &failed.stdout[..]), (Some(1), &b"0123"[..]));
    assert_eq!(failed.stderr, b"Failed: it\nbroke\n");
    let killed = run()?;
    assert_eq!((killed.status.signal(), &killed.stdout[..]), (Some(9), &b"01234"[..]));
    for _ in 0..2 {
        let early = run()?;
        assert_eq!((early.status.code(), &early.stdout[..]), (Some(0), &b"012345"[..]));
    }
    assert_eq!(standin.runs()?.len(), 4);
    let wrong = Command::new(standin.program()).arg("--archive=x.gz").output()?;
    assert_eq!(wrong.status.code(), Some(64));
    Ok(())
}

#[test]
fn a_hanging_run_is_alive_until_it_is_killed() -> Result<()> {
    let play = Play::archive(b"0123456789".to_vec()).stop_at(3).ending(Ending::Hangs).ignores_term();
    let standin = StandIn::create(&[play])?;
    let mut child = Command::new(standin.program()).arg("--archive").stdout(Stdio::piped()).spawn()?;
    let mut three = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut three)?;
    assert_eq!(&three, b"012");
    // SAFETY: this is a child of this process that has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait()?.is_none() && standin.runs()?[0].is_alive());
    child.kill()?;
    assert_eq!(child.wait()?.signal(), Some(9));
    assert!(!standin.runs()?[0].is_alive());
    Ok(())
}
