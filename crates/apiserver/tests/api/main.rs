//! The server as its clients see it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test ends where it cannot go on, and says when it is skipped"
)]

mod bad_input;
mod custom;
mod ends;
mod http;
mod kinds;
mod kubectl;
mod lists;
mod rights;
mod streams;
mod support;
mod verbs;
mod versions;
#[path = "../support/waiting.rs"]
mod waiting;
