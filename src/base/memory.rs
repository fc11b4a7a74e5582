//! Memory that is not there: Rust ends such a process by SIGABRT, which is no exit code of ours and
//! writes a core. This allocator says so and ends with exit 1; the next run removes what was left. And [`Kills`] knows
//! whether the kernel killed a child for lack of memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;

use crate::base::crash::without_memory;

/// The system's allocator, for which a failure is the end of the process.
pub struct Strict;

// SAFETY: everything is the system allocator's own; a null pointer is never handed on.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        there(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Keeps what is given back for the next time, up to a bound. By default glibc returns a batch or a block of
/// 1 MiB to the kernel as soon as it is free, and the kernel clears its pages when they are asked for again:
/// 2 % of a backup's time.
pub fn keep() {
    // SAFETY: calls without pointers, made before there are other threads.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

fn there(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        without_memory(
            b"error: there is not enough memory\nnext step: Free some, or raise the limit (ulimit -v)\n",
        );
    }
    pointer
}

/// How often the kernel had killed a process of this one's control group for lack of memory when the watch began.
#[derive(Debug, Clone, Copy)]
pub struct Kills(Option<u64>);

impl Kills {
    /// Begins to watch.
    pub fn watch() -> Kills {
        Kills(kills(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
    }

    /// Returns true if the kernel has killed a process of the group since, and false also where that is not known.
    pub fn rose(self) -> bool {
        self.0.zip(Kills::watch().0).is_some_and(|(before, now)| now > before)
    }
}

/// The counter `oom_kill` of the memory control group that `own` (/proc/self/cgroup, cgroups(7)) names, below `mount`.
/// In version 2 it is in `memory.events`, in version 1 in `memory.oom_control`.
fn kills(own: &Path, mount: &Path) -> Option<u64> {
    let own = fs::read_to_string(own).ok()?;
    let group = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let group = group.trim_start_matches('/').to_string();
        match controllers {
            "" => Some((mount.to_path_buf(), group, "memory.events")),
            some if some.split(',').any(|one| one == "memory") => {
                Some((mount.join("memory"), group, "memory.oom_control"))
            }
            _ => None,
        }
    };
    let counter =
        |text: String| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    own.lines().filter_map(group).find_map(|(mount, group, file)| {
        // A container may see its own group as the root of the mount, under the name that it has outside.
        let places = [mount.join(group).join(file), mount.join(file)];
        places.iter().find_map(|place| counter(fs::read_to_string(place).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_both_versions_of_control_groups() {
        let home = tempfile::tempdir().unwrap();
        let (own, mount) = (home.path().join("own"), home.path().join("mount"));
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("system.slice/b.service/memory.events", "low 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 1\n");
        write("memory.events", "oom_kill 5\n");
        write("memory/docker/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        for (text, want) in [
            ("0::/system.slice/b.service\n", Some(2)),
            ("0::/../outside/of/the/container\n", Some(5)),
            ("4:cpu,cpuacct:/docker/x\n3:hugetlb,memory:/docker/x\n", Some(3)),
            ("4:cpu:/docker/x\n", None),
            ("", None),
        ] {
            fs::write(&own, text).unwrap();
            assert_eq!(kills(&own, &mount), want, "{text}");
        }
        assert_eq!(kills(Path::new("/nothing/here"), &mount), None);
        assert!(!Kills(None).rose() && !Kills(Some(u64::MAX)).rose());
    }
}
