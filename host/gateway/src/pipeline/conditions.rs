//! Compiled conditions, kept by tenant and source: rules are read anew for each event, their conditions compiled once.
//!
//! What is kept is bounded in bytes. When it is full, the tenant that takes most gives up what it has used least recently, so that
//! one with many large conditions costs its neighbors nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{id::AppId, rules::rule::Guard};

/// Bytes of all compiled conditions.
const BYTES_MAX: usize = 64 << 20;

/// The compiled conditions of all tenants. Clones share them.
#[derive(Clone)]
pub struct Conditions {
    kept: Arc<Mutex<Kept>>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Conditions {
    /// Keeps this many bytes, roughly.
    fn new(bytes_max: usize) -> Self {
        Self { kept: Arc::new(Mutex::new(Kept { bytes_max, bytes: 0, uses: 0, tenants: HashMap::new() })) }
    }

    /// Compiles what of these is not here yet, apart from the threads that serve requests. What doesn't fit is compiled again by
    /// [`Conditions::guard`].
    pub async fn prepare<'a>(&self, app: &AppId, sources: impl Iterator<Item = &'a str>) {
        let missing: Vec<String> = {
            let kept = self.kept();
            sources.filter(|source| !kept.has(app, source)).map(str::to_owned).collect()
        };
        if missing.is_empty() {
            return;
        }
        let (conditions, app) = (self.clone(), app.clone());
        let compile = move || {
            for source in missing {
                conditions.guard(&app, Some(&source));
            }
        };
        // Compiling never panics; if it did, the guard would be compiled when it is asked for.
        let _ = tokio::task::spawn_blocking(compile).await;
    }

    /// The guard for a condition of a tenant's rule.
    pub fn guard(&self, app: &AppId, condition: Option<&str>) -> Guard {
        let Some(source) = condition else { return Guard::Always };
        if let Some(guard) = self.kept().find(app, source) {
            return guard;
        }
        let guard = Guard::from_stored(Some(source));
        self.kept().keep(app, source, &guard);
        guard
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Kept {
    bytes_max: usize,
    bytes: usize,
    /// Counts uses; a clock for "recently".
    uses: u64,
    tenants: HashMap<AppId, Tenant>,
}

#[derive(Default)]
struct Tenant {
    bytes: usize,
    guards: HashMap<String, Entry>,
}

struct Entry {
    guard: Guard,
    bytes: usize,
    used: u64,
}

impl Kept {
    fn has(&self, app: &AppId, source: &str) -> bool {
        self.tenants.get(app).is_some_and(|tenant| tenant.guards.contains_key(source))
    }

    fn find(&mut self, app: &AppId, source: &str) -> Option<Guard> {
        self.uses += 1;
        let entry = self.tenants.get_mut(app)?.guards.get_mut(source)?;
        entry.used = self.uses;
        Some(entry.guard.clone())
    }

    fn keep(&mut self, app: &AppId, source: &str, guard: &Guard) {
        if self.has(app, source) {
            return;
        }
        let bytes = source.len()
            + match guard {
                Guard::If(condition) => condition.bytes(),
                Guard::Always | Guard::Broken(_) => 1_024,
            };
        self.uses += 1;
        let tenant = self.tenants.entry(app.clone()).or_default();
        tenant.guards.insert(source.to_owned(), Entry { guard: guard.clone(), bytes, used: self.uses });
        tenant.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.drop_one() {}
    }

    /// The tenant that takes most gives up its least recently used condition; false where nobody has any.
    fn drop_one(&mut self) -> bool {
        let Some((app, tenant)) = self.tenants.iter_mut().max_by_key(|(_, tenant)| tenant.bytes) else { return false };
        let oldest = tenant.guards.iter().min_by_key(|(_, entry)| entry.used).map(|(source, _)| source.clone());
        if let Some(entry) = oldest.and_then(|source| tenant.guards.remove(&source)) {
            tenant.bytes -= entry.bytes;
            self.bytes -= entry.bytes;
        }
        if tenant.guards.is_empty() {
            let app = app.clone();
            self.tenants.remove(&app);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Minter, SystemClock};

    fn minter() -> Minter {
        Minter::new(Arc::new(SystemClock))
    }

    fn count(conditions: &Conditions, app: &AppId) -> usize {
        conditions.kept().tenants.get(app).map_or(0, |tenant| tenant.guards.len())
    }

    #[test]
    fn a_condition_is_compiled_once_and_its_errors_are_kept_too() {
        let (conditions, app) = (Conditions::default(), minter().mint());
        for _ in 0..3 {
            assert!(matches!(conditions.guard(&app, Some("vars.paid")), Guard::If(_)));
            assert!(matches!(conditions.guard(&app, Some("((")), Guard::Broken(_)));
            assert_eq!(conditions.guard(&app, None), Guard::Always);
        }
        assert_eq!(count(&conditions, &app), 2);
    }

    #[test]
    fn a_tenant_with_many_conditions_displaces_its_own() {
        let minter = minter();
        let (hog, neighbor): (AppId, AppId) = (minter.mint(), minter.mint());
        let conditions = Conditions::new(1 << 20);
        conditions.guard(&neighbor, Some("vars.paid"));
        for number in 0..2_000 {
            conditions.guard(&hog, Some(&format!("vars.total > {number}")));
        }
        assert!(conditions.kept().bytes <= 1 << 20);
        assert!((10..1_000).contains(&count(&conditions, &hog)), "{}", count(&conditions, &hog));
        assert!(conditions.kept().has(&hog, "vars.total > 1999") && !conditions.kept().has(&hog, "vars.total > 0"));
        assert!(conditions.kept().has(&neighbor, "vars.paid"));
    }

    #[test]
    fn patterns_count_with_what_they_take() {
        let (conditions, app) = (Conditions::new(4 << 20), minter().mint());
        for number in 0..100 {
            conditions.guard(&app, Some(&format!(r"vars.text.matches('\\w\\w\\w{number}')")));
        }
        assert!((1..50).contains(&count(&conditions, &app)), "{}", count(&conditions, &app));
    }

    #[tokio::test]
    async fn what_is_prepared_is_there_when_it_is_asked_for() {
        let (conditions, app) = (Conditions::default(), minter().mint());
        conditions.prepare(&app, ["vars.paid", "vars.total > 1"].into_iter()).await;
        assert_eq!(count(&conditions, &app), 2);
    }
}
