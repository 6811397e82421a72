//! What a machine boots next, and the text or archive that makes it do so.

mod arguments;
mod overlay;
mod render;
mod select;

pub use arguments::{Argument, arguments};
pub use overlay::overlay;
pub use render::{Format, Place, render};
pub use select::{Choice, is_local_disk, select};

use std::net::Ipv4Addr;

/// `http://10.0.0.1` or, on another port than 80, `http://10.0.0.1:8080`.
pub fn base_url(server: Ipv4Addr, port: u16) -> String {
    if port == 80 { format!("http://{server}") } else { format!("http://{server}:{port}") }
}
