//! The boot services against other people's clients, in network namespaces that each test makes and
//! removes: perfdhcp, atftp, tftp, curl, snmpd and snmpwalk. Needs root and these programs.
#![allow(clippy::unwrap_used)]

mod boot {
    mod bench;
    mod dhcp;
    mod garbage;
    mod http;
    mod switch;
    mod tftp;
}
