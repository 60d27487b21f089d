//! What is planned in a situation, given as a view.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at what it did not expect"
)]

mod background;
mod bad_input;
mod contract;
mod experiments;
mod istio;
mod policies;
mod regressions;
mod status;
mod table;
mod views;
