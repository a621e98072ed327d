//! Whole-system tests, and what they share.

pub mod card_model;
pub mod conformance;
