//! The work with the SDK and dynamic JSON.

use hookloom_plugin::{Failure, Message, Reshaped};

#[hookloom_plugin::reshaper]
fn reshape(message: Message) -> Result<Reshaped, Failure> {
    Reshaped::replaced(&reshape::dynamic(&message.payload))
}
