//! The work with the SDK and types that borrow from the payload.

use hookloom_plugin::{Failure, Message, Reshaped};
use reshape::Event;

#[hookloom_plugin::reshaper]
fn reshape(message: Message<Event<'_>>) -> Result<Reshaped, Failure> {
    Reshaped::replaced(&reshape::typed(&message.payload))
}
