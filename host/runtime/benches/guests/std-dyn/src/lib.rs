//! The work as an arbitrary Rust guest does it: the allocator of std and a stack of 1 MiB, as the linker makes it by default.

use hookloom_plugin::{Failure, Message, Reshaped};

#[hookloom_plugin::reshaper]
fn reshape(message: Message) -> Result<Reshaped, Failure> {
    Reshaped::replaced(&reshape::dynamic(&message.payload))
}
