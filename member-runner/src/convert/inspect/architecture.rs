//! What a guest's programs run on, by the ELF header of one of them.

use std::fmt;

use super::guest::Guest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
    /// 32 bits, which no current instance type boots.
    X86,
    /// `e_machine` of something that EC2 has never had.
    Other(u16),
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86_64 => f.write_str("x86_64"),
            Self::Aarch64 => f.write_str("aarch64"),
            Self::X86 => f.write_str("32-bit x86"),
            Self::Other(machine) => write!(f, "ELF machine {machine}"),
        }
    }
}

/// What every guest has: a shell, or else the loader of its programs.
const PROGRAMS: [&str; 5] = [
    "/bin/sh",
    "/sbin/init",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux.so.2",
];

const HEADER_LEN: usize = 20;

pub fn architecture(guest: &Guest) -> Option<Architecture> {
    PROGRAMS
        .iter()
        .find_map(|path| of_elf(&guest.start(path, HEADER_LEN)?))
}

/// | at | length | field                                  |
/// |----|--------|----------------------------------------|
/// | 0  | 4      | `\x7fELF`                              |
/// | 4  | 1      | class: 1 for 32 bits, 2 for 64         |
/// | 5  | 1      | order of bytes: 1 little, 2 big endian |
/// | 18 | 2      | `e_machine`                            |
fn of_elf(header: &[u8]) -> Option<Architecture> {
    let header: &[u8; HEADER_LEN] = header.first_chunk()?;
    if header[..4] != *b"\x7fELF" {
        return None;
    }
    let machine = [header[18], header[19]];
    let machine = match header[5] {
        2 => u16::from_be_bytes(machine),
        _ => u16::from_le_bytes(machine),
    };
    // 62 with 32-bit pointers is x32, a 32-bit userland on a 64-bit kernel: it boots as such.
    Some(match machine {
        62 => Architecture::X86_64,
        183 => Architecture::Aarch64,
        3 => Architecture::X86,
        other => Architecture::Other(other),
    })
}

#[cfg(test)]
pub fn elf_header(machine: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[18..].copy_from_slice(&machine.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_of_a_program_tells() {
        assert_eq!(of_elf(&elf_header(62)), Some(Architecture::X86_64));
        assert_eq!(of_elf(&elf_header(183)), Some(Architecture::Aarch64));
        assert_eq!(of_elf(&elf_header(3)), Some(Architecture::X86));
        let mut s390x = elf_header(0);
        s390x[5] = 2;
        s390x[19] = 22;
        assert_eq!(of_elf(&s390x), Some(Architecture::Other(22)));
        assert_eq!(of_elf(b"#!/bin/sh\n0123456789"), None);
        assert_eq!(of_elf(b"\x7fELF"), None);
    }

    #[test]
    fn this_machine_is_recognised() {
        let header = std::fs::read("/proc/self/exe").unwrap();
        let found = of_elf(&header).unwrap();
        assert_eq!(found.to_string(), std::env::consts::ARCH);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            of_elf(&bytes);
        }
    }
}
