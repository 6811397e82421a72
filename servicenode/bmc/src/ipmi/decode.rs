//! Reading answers: the decoders of `ipmi-rs-core` behind a panic boundary, and the words for
//! completion codes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ipmi_rs_core::app::auth::{GetChannelAuthenticationCapabilities, PrivilegeLevel};
use ipmi_rs_core::app::{DeviceId, GetDeviceId};
use ipmi_rs_core::connection::{Channel, IpmiCommand, Message};

use super::message::Request;

/// Get Channel Authentication Capabilities for the channel it is asked on.
#[must_use]
pub fn capabilities_request(privilege: u8) -> Request {
    let level = if privilege >= 4 { PrivilegeLevel::Administrator } else { PrivilegeLevel::Operator };
    request(GetChannelAuthenticationCapabilities::new(Channel::Current, level))
}

/// Whether the answer says that RMCP+ sessions are possible; `None` when it cannot be read.
#[must_use]
pub fn speaks_ipmi_2(data: &[u8]) -> Option<bool> {
    answer::<GetChannelAuthenticationCapabilities>(data).map(|answer| answer.ipmi2_connections_supported)
}

/// Get Device ID.
#[must_use]
pub fn device_id_request() -> Request {
    request(GetDeviceId)
}

/// The answer to Get Device ID.
#[must_use]
pub fn device_id(data: &[u8]) -> Option<DeviceId> {
    answer::<GetDeviceId>(data)
}

/// What xCAT says for a completion code.
#[must_use]
pub fn completion(code: u8) -> &'static str {
    match code {
        0xc0 => "Node busy, command could not be processed",
        0xc1 => "Invalid or unsupported command",
        0xc2 => "Command invalid for given LUN",
        0xc3 => "Timeout while processing command, response unavailable",
        0xc4 => "Out of space, could not execute command",
        0xc5 => "Reservation canceled or invalid reservation ID",
        0xc6 => "Request data truncated",
        0xc7 => "Request data length invalid",
        0xc8 => "Request data field length limit exceeded",
        0xc9 => "Parameter out of range",
        0xca => "Cannot return number of requested data bytes",
        0xcb => "Not present",
        0xcc => "Invalid data field in Request",
        0xcd => "Command illegal for specified sensor or record type",
        0xce => "Command response could not be provided",
        0xcf => "Cannot execute duplicated request",
        0xd0 => "Command response could not be provided. SDR Repository in update mode",
        0xd1 => "Command response could not be provided. Device in firmware update mode",
        0xd2 => "Command response could not be provided. BMC initialization in progress",
        0xd3 => "Destination unavailable",
        0xd4 => "Insufficient privilege level",
        0xd5 => "Command or request parameter(s) not supported in present state",
        0xff => "Unspecified error",
        _ => "Unknown error",
    }
}

fn request(command: impl IpmiCommand) -> Request {
    let message: Message = command.into();
    Request::new(message.netfn_raw(), message.cmd(), message.data())
}

/// Some of the foreign decoders index without looking: a short answer must not take the daemon along.
fn answer<C: IpmiCommand>(data: &[u8]) -> Option<C::Output> {
    catch_unwind(AssertUnwindSafe(|| C::parse_success_response(data).ok())).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_are_nothing_instead_of_a_panic() {
        for length in 0..7 {
            assert_eq!(speaks_ipmi_2(&vec![0xff; length]), None);
        }
        for length in 0..11 {
            assert_eq!(device_id(&vec![0xff; length]), None);
        }
    }

    #[test]
    fn the_question_for_capabilities_asks_for_ipmi_2_data() {
        assert_eq!(capabilities_request(4), Request::new(0x06, 0x38, [0x8e, 0x04]));
    }
}
