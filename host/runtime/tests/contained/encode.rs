//! Writes pieces of components that no tool would write.

/// A section of a module or component.
pub fn section(id: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend(number(data.len()));
    bytes.extend(data);
    bytes
}

/// A number as WebAssembly writes it.
pub fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
