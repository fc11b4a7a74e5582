//! Stand-ins for the programs of a system. Each records its calls and keeps its state in files.

use std::path::{Path, PathBuf};

use crate::cli::support::Home;

/// A `crontab` as Debian's, which keeps its crontab in the file `tab`, and fails if a file `refuse` or `unreadable` is
/// there.
const CRONTAB: &str = r#"#!/bin/sh
cd HOME || exit 9
echo "crontab $*" >> calls
case "$1" in
-l)
    [ -e unreadable ] && { echo "You are not allowed to use this program" >&2; exit 1; }
    [ -e tab ] && exec cat tab
    echo "no crontab for somebody" >&2; exit 1 ;;
-)
    [ -e refuse ] && { echo '"-":7: bad minute' >&2; exit 1; }
    cat > tab.new && mv tab.new tab ;;
*) exit 9 ;;
esac
"#;

/// A `systemctl` whose enabled timers are files in the folder `enabled`.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd HOME || exit 9
mkdir -p enabled
verb=$1; shift
case "$verb" in
is-enabled|is-active) [ -e "enabled/$1" ] ;;
show) cat stale 2>/dev/null || echo no ;;
*)
    echo "systemctl $verb $*" >> calls
    [ -e refuse ] && [ "$verb" = "$(cat refuse)" ] && { echo "Failed to $verb unit" >&2; exit 1; }
    [ "$1" = --now ] && shift
    case "$verb" in
    daemon-reload) rm -f stale ;;
    enable) for timer; do touch "enabled/$timer"; done ;;
    disable) for timer; do rm "enabled/$timer"; done ;;
    esac ;;
esac
"#;

const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> HOME/calls\n";

/// A machine on which `init` runs: a home, and stand-ins for its programs.
pub struct Machine {
    pub home: Home,
    pub programs: Programs,
}

impl Machine {
    pub fn new() -> Machine {
        let home = Home::new();
        let programs = Programs::new(home.path());
        Machine { home, programs }
    }

    /// The configuration file that `init` writes.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("etc/config.toml")
    }
}

/// A folder with stand-ins, as the `PATH` of the tool.
pub struct Programs {
    home: PathBuf,
}

impl Programs {
    pub fn new(home: &Path) -> Programs {
        let programs = Programs { home: home.join("system") };
        std::fs::create_dir_all(programs.folder()).expect("a folder");
        let others = ["useradd", "setfacl", "install"].map(|name| (name, RECORDER));
        for (name, script) in [("crontab", CRONTAB), ("systemctl", SYSTEMCTL)].into_iter().chain(others) {
            let script = script.replace("HOME", programs.home.to_str().expect("UTF-8"));
            let path = programs.folder().join(name);
            std::fs::write(&path, script).expect("a program");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }
        programs
    }

    pub fn folder(&self) -> PathBuf {
        self.home.join("bin")
    }

    /// A file of the stand-ins.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), content).expect("a file");
    }

    /// The crontab; empty if there is none.
    pub fn tab(&self) -> Vec<u8> {
        std::fs::read(self.file("tab")).unwrap_or_default()
    }

    /// The recorded calls since the last time, without `crontab -l`.
    pub fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.file("calls")).unwrap_or_default();
        let _ = std::fs::remove_file(self.file("calls"));
        calls.lines().filter(|call| *call != "crontab -l").map(String::from).collect()
    }
}
