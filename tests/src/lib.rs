//! Whole-system tests, and what they share.

pub mod bench;
pub mod card_model;
pub mod conformance;
pub mod harness;
pub mod mutants;
pub mod plan_outcomes;
pub mod register_map;
pub mod vfio_user;
