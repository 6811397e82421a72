//! Versions of the conversations.

/// Oldest version that this build still speaks.
pub const MIN: u32 = 1;
/// Version that this build speaks by itself. Raised with every change of a message.
pub const CURRENT: u32 = 1;

/// Whether a peer that speaks `theirs` can be understood.
///
/// # Errors
/// A sentence for the admin that says which side is too old.
pub fn check(theirs: u32) -> Result<(), String> {
    if theirs < MIN {
        Err(format!(
            "the other side speaks protocol version {theirs}, the oldest understood here is {MIN}: upgrade it"
        ))
    } else {
        Ok(())
    }
}
