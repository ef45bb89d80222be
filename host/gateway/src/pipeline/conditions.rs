//! Compiled conditions, kept by their source: rules are read anew for each event, their conditions compiled once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::rules::rule::Guard;

/// Conditions kept; when there are more, all are let go and compiled again as they are met.
const CONDITIONS_MAX: usize = 1_000;

/// The compiled conditions of all tenants.
#[derive(Default)]
pub struct Conditions {
    kept: Mutex<HashMap<String, Guard>>,
}

impl Conditions {
    /// The guard for a rule's condition.
    pub fn guard(&self, condition: Option<&str>) -> Guard {
        let Some(source) = condition else { return Guard::Always };
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = kept().get(source) {
            return guard.clone();
        }
        let guard = Guard::from_stored(Some(source));
        let mut kept = kept();
        if kept.len() >= CONDITIONS_MAX {
            kept.clear();
        }
        kept.insert(source.to_owned(), guard.clone());
        guard
    }
}
