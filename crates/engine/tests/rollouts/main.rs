//! What is planned in a situation, given as a view.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod contract;
mod regressions;
mod table;
mod views;
