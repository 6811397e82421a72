//! Which boot file a client gets: by what it says it is (options 60, 77, 93, 175).

/// What stands at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// iPXE (also xCAT's xNBA build of it): takes a script by HTTP.
    Ipxe,
    /// PXE firmware of this architecture (RFC 4578 number).
    Pxe(u16),
    /// UEFI HTTP boot of this architecture.
    Http(u16),
    /// No boot client: an operating system, a BMC, a printer.
    Plain,
}

/// What to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile {
    /// The iPXE script of this service node.
    Script,
    /// This loader by TFTP.
    Tftp(&'static str),
    /// This loader by HTTP.
    Http(&'static str),
    /// Nothing: the firmware goes on to its next device.
    Nothing,
}

impl Client {
    /// Reads the client's words about itself.
    pub fn of(vendor: &[u8], user_class: &[u8], ipxe: bool, arch: Option<u16>) -> Client {
        let says = |word: &[u8]| user_class.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
        if ipxe || says(b"ipxe") || says(b"xnba") {
            Client::Ipxe
        } else if vendor.starts_with(b"HTTPClient") {
            Client::Http(arch.unwrap_or(0x10))
        } else if vendor.starts_with(b"PXEClient") || vendor.starts_with(b"Etherboot") {
            Client::Pxe(arch.unwrap_or(0))
        } else {
            Client::Plain
        }
    }

    fn efi(self) -> bool {
        match self {
            Client::Http(_) => true,
            Client::Pxe(arch) => arch != 0,
            Client::Ipxe | Client::Plain => false,
        }
    }

    /// The boot file for a node with this `noderes.netboot` (empty for unknown machines) whose
    /// next step is its local disk or not.
    pub fn boot_file(self, netboot: &str, local_disk: bool) -> BootFile {
        match self {
            Client::Plain => BootFile::Nothing,
            Client::Ipxe => BootFile::Script,
            // UEFI firmware tries its next boot option when it gets no file.
            _ if local_disk && self.efi() => BootFile::Nothing,
            Client::Pxe(0) if netboot == "pxe" => BootFile::Tftp("pxelinux.0"),
            Client::Pxe(6 | 7 | 9) if netboot.starts_with("grub2") => BootFile::Tftp("grubnetx64.efi"),
            Client::Pxe(0x0b) if netboot.starts_with("grub2") => BootFile::Tftp("grubnetaa64.efi"),
            Client::Pxe(0x0c) => BootFile::Tftp("grub2.ppc"),
            Client::Pxe(0) => BootFile::Tftp("undionly.kpxe"),
            Client::Pxe(6) => BootFile::Tftp("snponly-i386.efi"),
            Client::Pxe(7 | 9) => BootFile::Tftp("snponly.efi"),
            Client::Pxe(0x0b) => BootFile::Tftp("snponly-arm64.efi"),
            Client::Http(0x0f) => BootFile::Http("snponly-i386.efi"),
            Client::Http(0x10 | 0x11 | 7 | 9) => BootFile::Http("snponly.efi"),
            Client::Http(0x13) => BootFile::Http("snponly-arm64.efi"),
            Client::Pxe(_) | Client::Http(_) => BootFile::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart() {
        let pxe = b"PXEClient:Arch:00000:UNDI:002001";
        assert_eq!(Client::of(pxe, b"", false, Some(0)), Client::Pxe(0));
        assert_eq!(Client::of(pxe, b"iPXE", false, Some(0)), Client::Ipxe);
        assert_eq!(Client::of(pxe, b"\x04iPXE", false, Some(7)), Client::Ipxe, "RFC 3004 form");
        assert_eq!(Client::of(pxe, b"xNBA", false, Some(0)), Client::Ipxe);
        assert_eq!(Client::of(pxe, b"", true, Some(7)), Client::Ipxe, "option 175");
        assert_eq!(Client::of(b"HTTPClient:Arch:00016", b"", false, Some(16)), Client::Http(16));
        assert_eq!(Client::of(b"udhcp 1.35", b"", false, None), Client::Plain);
        assert_eq!(Client::of(b"", b"", false, None), Client::Plain);
    }

    #[test]
    fn loader_fits_the_architecture() {
        for (client, netboot, want) in [
            (Client::Pxe(0), "", BootFile::Tftp("undionly.kpxe")),
            (Client::Pxe(0), "xnba", BootFile::Tftp("undionly.kpxe")),
            (Client::Pxe(0), "pxe", BootFile::Tftp("pxelinux.0")),
            (Client::Pxe(7), "", BootFile::Tftp("snponly.efi")),
            (Client::Pxe(9), "", BootFile::Tftp("snponly.efi")),
            (Client::Pxe(7), "grub2-http", BootFile::Tftp("grubnetx64.efi")),
            (Client::Pxe(0x0b), "", BootFile::Tftp("snponly-arm64.efi")),
            (Client::Http(0x10), "", BootFile::Http("snponly.efi")),
            (Client::Pxe(0x77), "", BootFile::Nothing),
            (Client::Ipxe, "pxe", BootFile::Script),
            (Client::Plain, "", BootFile::Nothing),
        ] {
            assert_eq!(client.boot_file(netboot, false), want, "{client:?} {netboot}");
        }
    }

    #[test]
    fn local_disk_leaves_uefi_alone_and_lets_ipxe_leave() {
        assert_eq!(Client::Pxe(7).boot_file("", true), BootFile::Nothing);
        assert_eq!(Client::Http(16).boot_file("", true), BootFile::Nothing);
        assert_eq!(Client::Ipxe.boot_file("", true), BootFile::Script);
        assert_eq!(Client::Pxe(0).boot_file("", true), BootFile::Tftp("undionly.kpxe"));
    }
}
