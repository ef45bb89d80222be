//! Core functions over `i32`s, whose type is checked when a plugin is loaded instead of on each call.
//!
//! The engine's own typed functions look each type up in a table that all threads share, three times a call: some 5 % of a small call's
//! time, and what two threads then wait for each other. A [`PlainExport`] can't be made but of an export with the very type that its
//! parameters say, and a [`Plain`] not but of a `PlainExport`, so the check can't be forgotten.
#![expect(
    unsafe_code,
    reason = "the engine checks the type of a call only where it looks it up anew; the proof stands beside it"
)]

use std::ptr;

use wasmtime::{
    AsContextMut, Error, Extern, ExternType, Func, Instance, Module, ModuleExport, Result, Store, ValRaw, ValType,
};

use super::CallState;

/// An export of a module: a function of `N` parameters and `R` results, all `i32`. `N` is at least 1, and `R` at most 1.
pub(crate) struct PlainExport<const N: usize, const R: usize>(ModuleExport);

/// The same of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<const N: usize, const R: usize>(Func);

impl<const N: usize, const R: usize> PlainExport<N, R> {
    /// Finds it; `None` where there is no such export, or it is of another type.
    pub(crate) fn find(module: &Module, name: &str) -> Option<PlainExport<N, R>> {
        const { assert!(N >= 1 && R <= 1) };
        let Some(ExternType::Func(ty)) = module.get_export(name) else { return None };
        let is_plain = |mut types: Box<dyn Iterator<Item = ValType> + '_>| types.all(|ty| matches!(ty, ValType::I32));
        let fits = (ty.params().len(), ty.results().len()) == (N, R)
            && is_plain(Box::new(ty.params()))
            && is_plain(Box::new(ty.results()));
        if fits { module.get_export_index(name).map(PlainExport) } else { None }
    }

    /// The function in an instance of that module.
    ///
    /// # Errors
    /// The instance is of another module.
    pub(crate) fn of(&self, instance: &Instance, store: &mut Store<CallState>) -> Result<Plain<N, R>> {
        match instance.get_module_export(store, &self.0) {
            Some(Extern::Func(function)) => Ok(Plain(function)),
            _ => Err(Error::msg("an export of the module is no function")),
        }
    }
}

impl<const N: usize, const R: usize> Plain<N, R> {
    /// Calls it; what it returns, or 0 where it returns nothing.
    ///
    /// # Errors
    /// As [`wasmtime::TypedFunc::call`].
    pub(crate) fn call(self, store: impl AsContextMut, params: [u32; N]) -> Result<u32> {
        let mut values = params.map(ValRaw::u32);
        // SAFETY: the array is valid, and has room for the parameters and, not at the same time, for the result: `N` is at least 1. The
        // parameters are there and are `i32`s, as the function's type says: `PlainExport::find` has compared it with `N` and `R`, and
        // the engine gives `PlainExport::of` nothing but that export of an instance of that module. There are no references among
        // them. Nothing here is async.
        unsafe { self.0.call_unchecked(store, ptr::from_mut(values.as_mut_slice())) }?;
        Ok(if R == 0 { 0 } else { values[0].get_u32() })
    }
}
