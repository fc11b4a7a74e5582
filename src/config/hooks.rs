//! The hooks: programs of the administrator that run before and after a backup.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::layers::{Layers, NOT_ABSOLUTE, boolean};
use super::table::{Origin, by_key};
use super::warnings::Exposed;
use crate::base::error::{Error, Result};
use crate::base::process;

/// The shell that runs a hook if `hooks.shell` asks for one.
const SHELL: &str = "/bin/sh";

/// The moment at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookMoment {
    Before,
    After,
}

impl HookMoment {
    /// The name of the hook.
    pub fn word(self) -> &'static str {
        match self {
            HookMoment::Before => "before_backup",
            HookMoment::After => "after_backup",
        }
    }

    fn key(self) -> &'static str {
        match self {
            HookMoment::Before => "hooks.before_backup",
            HookMoment::After => "hooks.after_backup",
        }
    }
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl HookCommand {
    /// The program and its arguments.
    pub fn words(&self) -> Vec<String> {
        [self.program.display().to_string()].into_iter().chain(self.args.iter().cloned()).collect()
    }
}

/// The hooks of the settings.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    pub before: Option<HookCommand>,
    pub after: Option<HookCommand>,
    /// How long a hook may run.
    pub limit: Duration,
    /// The variables of this process that hooks inherit.
    pub environment: Vec<(&'static str, OsString)>,
}

impl Hooks {
    /// Resolves the settings. A hook that stands in a file that other users can change is refused: they could run any program
    /// as this user.
    pub(super) fn resolve(layers: &Layers, exposed: &[Exposed]) -> Result<Hooks> {
        let shell = layers.value("hooks.shell", boolean)?;
        let resolved = |moment: HookMoment| {
            let command = command(layers, moment.key(), shell)?;
            let of_file = command.is_some() && matches!(layers.origin(moment.key()), Some(Origin::File(_)));
            let writable = exposed.iter().find(|file| matches!(file, Exposed::Configuration(_)));
            match writable.filter(|_| of_file) {
                Some(writable) => {
                    let what = format!("the hook {} is not run: {writable}", moment.word());
                    Err(Error::usage(what).hint(format!("Take that right away: {}", writable.remedy())))
                }
                None => Ok(command),
            }
        };
        Ok(Hooks {
            before: resolved(HookMoment::Before)?,
            after: resolved(HookMoment::After)?,
            limit: layers.duration("hooks.timeout")?,
            environment: layers.inherited.clone(),
        })
    }

    pub fn of(&self, moment: HookMoment) -> Option<&HookCommand> {
        match moment {
            HookMoment::Before => self.before.as_ref(),
            HookMoment::After => self.after.as_ref(),
        }
    }

    /// The hooks that are set, in the order in which they run.
    pub fn all(&self) -> impl Iterator<Item = (HookMoment, &HookCommand)> {
        [HookMoment::Before, HookMoment::After]
            .into_iter()
            .filter_map(|moment| Some((moment, self.of(moment)?)))
    }

    /// Checks that the programs can be run, and that no other user can replace them.
    ///
    /// # Errors
    /// Returns a usage error that names the first hook that cannot be run.
    pub fn check(&self) -> Result<()> {
        self.all().try_for_each(|(moment, hook)| {
            let setting = by_key(moment.key()).expect("the key is in the table");
            check(&hook.program).map_err(|why| {
                Error::usage(format!("the hook {}: {why}", moment.word()))
                    .hint(format!("Correct {} ({}), or leave it out", setting.key, setting.env))
            })
        })
    }
}

fn command(layers: &Layers, key: &'static str, shell: bool) -> Result<Option<HookCommand>> {
    let refused = |why: &str| Err(layers.wrong(key, why));
    match layers.list(key) {
        _ if !layers.is_set(key) => Ok(None),
        [line] if shell && !line.trim().is_empty() => {
            Ok(Some(HookCommand { program: SHELL.into(), args: vec!["-c".into(), line.clone()] }))
        }
        _ if shell => refused("with hooks.shell, it is a list of one text, the command line for /bin/sh"),
        [program, args @ ..] if !program.is_empty() => match PathBuf::from(program) {
            program if program.is_absolute() => Ok(Some(HookCommand { program, args: args.to_vec() })),
            _ => refused(NOT_ABSOLUTE),
        },
        _ => refused("it names no program"),
    }
}

fn check(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let meta = std::fs::metadata(program).map_err(|e| format!("{shown} cannot be run: {e}"))?;
    if !meta.is_file() {
        return Err(format!("{shown} is no program, because it is no regular file"));
    }
    if access(program, Access::EXEC_OK).is_err() {
        return Err(format!("{shown} is not executable for this user"));
    }
    process::trusted(program)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::exit::Exit;

    fn resolved(env: &[(&str, &str)]) -> Result<Hooks> {
        Hooks::resolve(&Layers::of(env), &[])
    }

    #[test]
    fn a_hook_is_a_program_with_arguments_and_no_shell() {
        let none = resolved(&[]).unwrap();
        assert_eq!((none.all().count(), none.limit), (0, Duration::from_secs(600)));
        let hooks = resolved(&[
            ("BACKUP_BEFORE_HOOK", "/opt/stop, $HOME;x"),
            ("BACKUP_AFTER_HOOK", "/opt/start"),
            ("BACKUP_HOOK_TIMEOUT", "5"),
        ]);
        let hooks = hooks.unwrap();
        let words: Vec<Vec<String>> = hooks.all().map(|(_, hook)| hook.words()).collect();
        assert_eq!(words, [vec!["/opt/stop", "$HOME;x"], vec!["/opt/start"]]);
        assert_eq!(hooks.limit, Duration::from_secs(5));
        let shell = [("BACKUP_AFTER_HOOK", "date > /tmp/x"), ("BACKUP_HOOK_SHELL", "true")];
        assert_eq!(resolved(&shell).unwrap().after.unwrap().words(), ["/bin/sh", "-c", "date > /tmp/x"]);
    }

    #[test]
    fn a_mistake_names_its_variable() {
        for (env, words) in [
            (&[("BACKUP_BEFORE_HOOK", "stop.sh")][..], ["BACKUP_BEFORE_HOOK", "absolute path"]),
            (&[("BACKUP_AFTER_HOOK", ",x")], ["BACKUP_AFTER_HOOK", "no program"]),
            (
                &[("BACKUP_AFTER_HOOK", "a,b"), ("BACKUP_HOOK_SHELL", "yes")],
                ["BACKUP_AFTER_HOOK", "one text"],
            ),
            (&[("BACKUP_HOOK_TIMEOUT", "0")], ["BACKUP_HOOK_TIMEOUT", "at least 1"]),
            (&[("BACKUP_HOOK_SHELL", "sh")], ["BACKUP_HOOK_SHELL", "true or false"]),
        ] {
            let error = resolved(env).unwrap_err();
            let text = error.chain();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_hook_in_a_file_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "[hooks]\nbefore_backup = ['/bin/true']\n").unwrap();
        for (mode, fine) in [(0o640, true), (0o666, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let layers = Layers::load(Default::default(), &|_| None, Some(&path)).unwrap();
            let exposed = super::super::warnings::exposed(&layers, &|_| None);
            let hooks = Hooks::resolve(&layers, &exposed);
            assert_eq!(hooks.is_ok(), fine, "{mode:o}");
            if let Err(error) = hooks {
                let (text, step) = (error.chain(), error.next_step().unwrap().to_string());
                assert!(
                    text.contains("before_backup is not run") && step.contains("chmod go-w"),
                    "{text} {step}"
                );
            }
            // A variable is not in the file.
            let env = |name: &str| (name == "BACKUP_BEFORE_HOOK").then(|| "/bin/true".into());
            let layers = Layers::load(Default::default(), &env, Some(&path)).unwrap();
            assert!(Hooks::resolve(&layers, &exposed).is_ok());
        }
    }

    #[test]
    fn only_programs_that_can_be_run_and_that_others_cannot_replace_pass_the_check() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        let hooks = |program: &Path| {
            let before = Some(HookCommand { program: program.into(), args: vec![] });
            Hooks { before, ..Hooks::default() }.check()
        };
        fs::write(&path, "#!/bin/sh\n").unwrap();
        for (mode, word) in [(0o755, None), (0o644, Some("not executable")), (0o757, Some("can change"))] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = hooks(&path).err();
            assert_eq!(error.is_some(), word.is_some(), "{mode:o}: {error:?}");
            if let Some((error, word)) = error.zip(word) {
                assert!(error.chain().contains(word) && error.exit() == Exit::Usage, "{error}");
                assert!(error.next_step().unwrap().contains("BACKUP_BEFORE_HOOK"), "{error:?}");
            }
        }
        for (program, word) in [(dir.path(), "no regular file"), (Path::new("/nowhere/x"), "No such file")] {
            let error = hooks(program).unwrap_err();
            assert!(error.chain().contains(word), "{error}");
        }
    }
}
