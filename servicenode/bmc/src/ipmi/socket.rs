//! The one UDP socket all BMC sessions share.
