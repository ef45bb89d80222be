//! What an instance needs of the pool, and which engine fits it.

use serde::{Deserialize, Serialize};

use crate::Limits;
use crate::compile::CompileError;
use crate::engine::{CLEARED_BYTES_MAX, CORE_INSTANCES_MAX, Class, MEMORIES_MAX, SNAPSHOT_BYTES_MIN, TABLES_MAX};

/// What one instance of a core module needs, or one of the whole component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Core modules that are instantiated; of the whole component only.
    pub(super) core_instances: u64,
    pub(super) memories: u64,
    pub(super) tables: u64,
    /// Of all its memories together.
    pub(super) initial_bytes: u64,
    /// Of all its tables together.
    pub(super) initial_elements: u64,
    /// Bytes of constants that its memories start with.
    pub(super) data_bytes: u64,
}

impl Needs {
    /// The engine that fits it best. What it grows to, or what is not known here, only costs time.
    pub(crate) fn class(&self) -> Class {
        if self.initial_bytes <= CLEARED_BYTES_MAX as u64 {
            Class::Program
        } else if self.data_bytes < SNAPSHOT_BYTES_MIN {
            Class::Roomy
        } else {
            Class::Snapshot
        }
    }

    /// Whether a fresh instance fits the pool at all. What is too large from the start is refused here, never at a call.
    pub(crate) fn check(&self, limits_max: &Limits) -> Result<(), CompileError> {
        let bounds = [
            ("core instances", self.core_instances, u64::from(CORE_INSTANCES_MAX)),
            ("memories", self.memories, u64::from(MEMORIES_MAX)),
            ("tables", self.tables, u64::from(TABLES_MAX)),
            ("bytes of memory from the start", self.initial_bytes, limits_max.memory_bytes_max),
            ("elements of tables from the start", self.initial_elements, limits_max.table_elements_max),
        ];
        for (what, needed, max) in bounds {
            if needed > max {
                return Err(CompileError::TooManyResources { what, needed, max });
            }
        }
        Ok(())
    }
}
