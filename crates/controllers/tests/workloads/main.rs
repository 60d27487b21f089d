//! Deployments, ReplicaSets, endpoints and Rollouts over the embedded API.

#[cfg(test)]
mod configuration;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod election;
#[cfg(test)]
mod emergencies;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod experiments;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod istio;
#[cfg(test)]
mod jobs;
#[cfg(test)]
#[path = "../support/node.rs"]
mod node;
#[cfg(test)]
mod releases;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod stack;
#[cfg(test)]
#[path = "../../../apiserver/tests/support/waiting.rs"]
mod waiting;
#[cfg(test)]
mod world;
