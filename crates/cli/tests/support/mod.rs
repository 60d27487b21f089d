//! What the end-to-end tests share: a platform of one's own, waits that end with their condition, and visitors of the gateway.
//!
//! Absent on purpose: anything that looks into the platform by another way than a user has. Everything goes through the
//! binary, the API and the gateway.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test file is a program of its own and uses a part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at what it did not expect"
)]

mod platform;
mod processes;
mod visitors;
mod waiting;
mod web;

use std::io::Write;
use std::path::PathBuf;

pub use platform::{Platform, Told, run};
pub use processes::Process;
pub use visitors::{Seen, Visitors};
pub use waiting::{PATIENCE, poll, poll_within, until, until_gone};
pub use web::{Answer, get, get_with};

/// Where a program is: the PATH, and where Debian keeps servers. `None` when it is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The PATH of everything that a test starts.
pub fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/bin:/bin:/usr/sbin:/sbin")
}

/// Says why a test does not run, in spite of the capturing of what passing tests print.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}
