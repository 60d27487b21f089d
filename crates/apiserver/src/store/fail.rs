//! Points of a write at which the tests end the process; outside of the tests there is nothing of it.

/// Marks a point. The order of the marks in the code is the order in which a write passes them.
#[cfg(not(test))]
pub(super) const fn point(_name: &'static str) {}

/// Ends the process, as a kill would, when this point is passed for the time that the environment names.
#[cfg(test)]
pub(super) fn point(name: &'static str) {
    super::tests::crash::pass(name);
}
