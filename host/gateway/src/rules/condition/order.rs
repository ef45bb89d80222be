//! The order in which maps are walked: that of their keys.
//!
//! The library keeps maps in hash tables whose order is another in each process, so that `vars.map(k, k)[0]` would be a matter of
//! chance. A condition has to give the same answer each time, so whatever a macro walks over is put in order first.

use cel::{
    ExecutionError, FunctionContext, IdedExpr,
    common::{
        ast::{CallExpr, EntryExpr, Expr},
        types::{CelList, CelMap, CelMapKey},
        value::{CowVal, Val},
    },
};

/// The name of [`in_order`] in expressions. No source can have it.
pub(super) const IN_ORDER: &str = "@in_order";

/// The expression with every range of a macro put in order.
pub(super) fn ordered(mut expression: IdedExpr) -> IdedExpr {
    put(&mut expression);
    expression
}

/// As deep as the expression is, which is bounded.
fn put(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Select(select) => put(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(put),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    put(&mut entry.key);
                    put(&mut entry.value);
                }
            }
        }
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(put),
        Expr::Comprehension(it) => {
            let it = &mut **it;
            for part in [&mut it.iter_range, &mut it.accu_init, &mut it.loop_cond, &mut it.loop_step, &mut it.result] {
                put(part);
            }
            let range = std::mem::take(&mut it.iter_range);
            let id = range.id;
            let call = CallExpr { func_name: IN_ORDER.to_owned(), target: None, args: vec![range] };
            it.iter_range = IdedExpr { id, expr: Expr::Call(call) };
        }
        Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// A map's keys in order; everything else as it is.
pub(super) fn in_order<'c, 'v>(call: &mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> {
    let Some(range) = call.args.pop() else { return Err(call.error("takes a value")) };
    let Some(map) = range.downcast_ref::<CelMap<'v>>() else { return Ok(range) };
    let mut keys: Vec<&CelMapKey<'v>> = map.inner().keys().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}
