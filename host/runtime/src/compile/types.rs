//! Counts types in type sections, and how deep they nest, without recursion.
//!
//! The parser that everything else relies on reads a component type within a component type by calling itself, without a bound: a
//! file of a few hundred kilobytes would overflow the host's stack. So this is looked at first. Pure.

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternName, ComponentImport, ComponentType, ComponentTypeRef, CoreType,
    FromReader, InstanceTypeDeclaration, WasmFeatures,
};

/// Component and instance types within one another. Interfaces are one deep, worlds two.
pub(super) const DEPTH_MAX: u64 = 16;

/// First bytes of the types that contain declarations.
const COMPONENT: u8 = 0x41;
const INSTANCE: u8 = 0x42;

/// What was found out, or what it already exceeds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// So many types and declarations.
    Types(u64),
    /// They nest more than [`DEPTH_MAX`] deep.
    TooDeep,
}

/// Counts the `count` component types that begin at `position` of the file and end at or before the end of `section`.
///
/// Stops counting beyond `count_max`, since more doesn't matter.
///
/// # Errors
/// Those of the parser.
pub(super) fn count(section: &[u8], position: usize, count: u32, count_max: u64) -> wasmparser::Result<Counted> {
    let mut reader = BinaryReader::new_features(section, position, WasmFeatures::all());
    // How many types or declarations are still to come, the innermost last; the outermost are types.
    let mut open = vec![u64::from(count)];
    let mut total = 0;
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        total += 1;
        if total > count_max {
            break;
        }
        let is_type = open.len() == 1 || declares_type(&mut reader)?;
        if !is_type {
            continue;
        }
        match reader.clone().read_u8()? {
            COMPONENT | INSTANCE => {
                reader.read_u8()?;
                open.push(u64::from(reader.read_var_u32()?));
                if open.len() as u64 > DEPTH_MAX + 1 {
                    return Ok(Counted::TooDeep);
                }
            }
            _ => skip::<ComponentType<'_>>(&mut reader)?,
        }
    }
    Ok(Counted::Types(total))
}

/// Whether the next declaration is a type, which then comes next; any other is skipped.
fn declares_type(reader: &mut BinaryReader<'_>) -> wasmparser::Result<bool> {
    match reader.read_u8()? {
        0x00 => skip::<CoreType<'_>>(reader)?,
        0x01 => return Ok(true),
        0x02 => skip::<ComponentAlias<'_>>(reader)?,
        0x03 => skip::<ComponentImport<'_>>(reader)?,
        0x04 => {
            skip::<ComponentExternName<'_>>(reader)?;
            skip::<ComponentTypeRef>(reader)?;
        }
        // Nothing begins so: the parser's own reading of it says what is wrong.
        _ => {
            let place = reader.original_position().saturating_sub(1);
            skip::<InstanceTypeDeclaration<'_>>(&mut BinaryReader::new(&[0xff], place))?;
        }
    }
    Ok(false)
}

fn skip<'a, T: FromReader<'a>>(reader: &mut BinaryReader<'a>) -> wasmparser::Result<()> {
    reader.read::<T>().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        // Each an instance type with one declaration, which is a type; the innermost has none.
        let mut bytes = [INSTANCE, 1, 1].repeat(levels);
        bytes.extend([INSTANCE, 0]);
        bytes
    }

    #[test]
    fn types_and_declarations_are_counted_in_whatever_depth() {
        assert_eq!(count(&nested(0), 0, 1, 100).unwrap(), Counted::Types(1));
        assert_eq!(count(&nested(14), 0, 1, 100).unwrap(), Counted::Types(15));
        let two = [nested(3), nested(4)].concat();
        assert_eq!(count(&two, 0, 2, 100).unwrap(), Counted::Types(9));
        assert_eq!(count(&two, 0, 2, 5).unwrap(), Counted::Types(6));
    }

    #[test]
    fn deep_ones_are_told_without_going_deep() {
        assert_eq!(count(&nested(15), 0, 1, 100).unwrap(), Counted::Types(16));
        assert_eq!(count(&nested(16), 0, 1, 100).unwrap(), Counted::TooDeep);
        assert_eq!(count(&nested(1_000_000), 0, 1, u64::MAX).unwrap(), Counted::TooDeep);
    }

    #[test]
    fn what_is_cut_off_or_no_type_is_an_error() {
        assert!(count(&nested(3)[..5], 0, 1, 100).is_err());
        assert!(count(&[INSTANCE, 1, 9], 0, 1, 100).is_err());
        assert!(count(&[0x13], 0, 1, 100).is_err());
    }
}
