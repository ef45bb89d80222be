//! What a tenant's plugin calls may use: the process's limits, and what an operator has lowered of them for the tenant.
//!
//! Every call of a tenant, live or tried, is made under [`limits_of`] it. Pure but for that function's look into the store.

use std::{collections::BTreeMap, time::Duration};

use hookloom_runtime::Limits;
use serde::{Deserialize, Serialize};

use crate::{
    gateway::Gateway,
    id::AppId,
    store::{StoreError, resource::App},
};

/// What is lowered for a tenant, by the names of [`FIELDS`]; what is missing is the process's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct TenantLimits(pub BTreeMap<String, u64>);

/// One limit of a call: its names, its least value, and where it stands.
pub struct Field {
    /// On the wire.
    pub name: &'static str,
    /// In the configuration, after `runtime.limits.`
    pub key: &'static str,
    /// What it can be lowered to.
    pub min: u64,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

macro_rules! fields {
    ($($name:literal $key:literal $min:literal $field:ident: $type:ty;)*) => {
        [$(Field {
            name: $name,
            key: $key,
            min: $min,
            // Limits fit 64 bits on every machine that this runs on; what doesn't is as good as none.
            get: |limits| u64::try_from(limits.$field).unwrap_or(u64::MAX),
            set: |limits, value| limits.$field = <$type>::try_from(value).unwrap_or(<$type>::MAX),
        },)* Field {
            name: "deadlineMs",
            key: "deadline_ms",
            min: 1,
            get: |limits| u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX),
            set: |limits, value| limits.deadline = Duration::from_millis(value),
        }]
    };
}

/// Every limit that can be lowered. The stack is not among them: the engine has one for all.
pub const FIELDS: [Field; 12] = fields! {
    "fuel" "fuel" 1 fuel: u64;
    "memoryBytesMax" "memory_bytes_max" 1 memory_bytes_max: u64;
    "tableElementsMax" "table_elements_max" 0 table_elements_max: u64;
    "inputBytesMax" "input_bytes_max" 1 input_bytes_max: usize;
    "outputBytesMax" "output_bytes_max" 1 output_bytes_max: usize;
    "matchesMax" "matches_max" 1 matches_max: usize;
    "logLinesMax" "log_lines_max" 0 log_lines_max: u32;
    "logBytesMax" "log_bytes_max" 0 log_bytes_max: usize;
    "logLineBytesMax" "log_line_bytes_max" 0 log_line_bytes_max: usize;
    "hostCallsMax" "host_calls_max" 0 host_calls_max: u32;
    "jsonDepthMax" "json_depth_max" 1 json_depth_max: usize;
};

impl TenantLimits {
    /// The process's limits, lowered by these. What was allowed when it was set and is more than the process has now is cut to that.
    pub fn within(&self, process: &Limits) -> Limits {
        let mut limits = process.clone();
        for field in &FIELDS {
            if let Some(value) = self.0.get(field.name) {
                (field.set)(&mut limits, (field.get)(process).min(*value));
            }
        }
        limits
    }
}

/// All limits by their names on the wire.
pub fn named(limits: &Limits) -> BTreeMap<&'static str, u64> {
    FIELDS.iter().map(|field| (field.name, (field.get)(limits))).collect()
}

impl Field {
    /// Its value among these limits.
    pub fn of(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }
}

/// The limits under which a tenant's plugins are called, read anew for each call. A tenant that is gone has the process's.
///
/// # Errors
/// As the store.
pub async fn limits_of(gateway: &Gateway, app: &AppId) -> Result<Limits, StoreError> {
    let app = gateway.find::<App>(app, app.as_str()).await?;
    Ok(app.map_or_else(|| gateway.config.limits.clone(), |app| app.value.limits.within(&gateway.config.limits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_lowered_by_its_name_and_nothing_else_is() {
        let process = Limits::default();
        for field in &FIELDS {
            let lowered = TenantLimits([(field.name.to_owned(), field.min)].into()).within(&process);
            for other in named(&lowered) {
                let expected = if other.0 == field.name { field.min } else { named(&process)[other.0] };
                assert_eq!(other.1, expected, "{} under {}", other.0, field.name);
            }
        }
        // A limit that is added to the runtime has to be added here.
        assert_eq!(serde_json::to_value(&process).unwrap().as_object().unwrap().len(), FIELDS.len());
        let keys: Vec<&str> = FIELDS.iter().map(|field| field.key).collect();
        assert!(serde_json::to_value(&process).unwrap().as_object().unwrap().keys().all(|key| keys.contains(&&**key)));
    }

    #[test]
    fn nothing_is_raised_above_the_process_and_nothing_unknown_matters() {
        let process = Limits { fuel: 10, ..Limits::default() };
        let limits = TenantLimits([("fuel".to_owned(), 11), ("gone".to_owned(), 1)].into()).within(&process);
        assert_eq!(limits, process);
    }
}
