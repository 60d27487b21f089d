//! What `/proc` tells of processes.

use std::fs;

use rustix::process::Pid;

use super::wire::ProcessId;

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The process.
    pub(crate) pid: Pid,
    /// Its parent; 0 for the first process.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// The process of a number, if there is one.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&text))
}

/// Every process, in no order.
pub(crate) fn all() -> impl Iterator<Item = Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            stat(Pid::from_raw(pid)?)
        })
}

/// The processes whose parent is this one. They can vanish only by being waited for, which nobody else does: to signal them
/// by number is exact.
pub(crate) fn children() -> impl Iterator<Item = Stat> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    all().filter(move |stat| stat.parent == me)
}

/// The identity of a living process.
pub(crate) fn identity(pid: Pid) -> Option<ProcessId> {
    stat(pid).map(|stat| ProcessId {
        pid: pid.as_raw_nonzero().get(),
        start_ticks: stat.start_ticks,
    })
}

/// Whether a process has ended and only waits to be noticed by its parent.
pub(crate) fn is_zombie(pid: Pid) -> bool {
    let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

/// Names the running boot of this machine; empty when the system does not tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The name in parentheses may hold anything, spaces and parentheses too: the fields are counted from its end.
fn parse_stat(pid: Pid, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Behind the group come the fields 6 to 21; the 22nd is the start time.
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        pid,
        parent,
        group,
        start_ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_trap() {
        let pid = Pid::from_raw(42).unwrap();
        let text = "42 (a) b (c)) S 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 11 12";
        assert_eq!(
            parse_stat(pid, text),
            Some(Stat {
                pid,
                parent: 7,
                group: 40,
                start_ticks: 987_654
            })
        );
        assert_eq!(parse_stat(pid, "42 (x) S 7"), None);
        assert_eq!(parse_stat(pid, ""), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = rustix::process::getpid();
        assert_eq!(stat(me).map(|s| s.pid), Some(me));
        assert!(all().any(|s| s.pid == me));
    }
}
