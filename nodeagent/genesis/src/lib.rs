//! Builds the discovery image: the kernel and the initramfs that an unknown machine boots.
//!
//! It takes the distribution's generic kernel package (downloaded, unpacked, never installed), the modules
//! a machine needs to reach its service node and its own BMC, a static busybox and the static agent.
//! It knows nothing of clusters, names or addresses: those travel on the kernel command line and in the
//! small overlay that a service node adds at each boot. After one build no network is needed any more.

pub mod compose;
pub mod cpio;
pub mod kernel;
pub mod modules;

pub use compose::{Image, Recipe};
