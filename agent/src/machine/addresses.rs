//! The addresses of all interfaces, asked of the kernel: rtnetlink(7), `RTM_GETADDR`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    pub ip: IpAddr,
}

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER_LEN: usize = 16;
const ADDRESS_LEN: usize = 8;
/// A header and an ifaddrmsg of zeros: all families, all interfaces.
const REQUEST_LEN: u32 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Addresses that other machines can use. None if the kernel does not say.
pub fn all() -> Vec<Address> {
    let addresses = dump().unwrap_or_default();
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    addresses
        .into_iter()
        .filter(|address| reachable(&address.ip))
        .collect()
}

fn dump() -> rustix::io::Result<Vec<Address>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = [0; REQUEST_LEN as usize];
    request[..4].copy_from_slice(&REQUEST_LEN.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    send(&socket, &request, SendFlags::empty())?;
    let mut addresses = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let (len, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if len == 0 || read_messages(&buffer[..len], &mut addresses) == Dump::Ended {
            return Ok(addresses);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Dump {
    GoesOn,
    Ended,
}

/// Reads one datagram of netlink messages. What is cut off or unknown is passed over.
fn read_messages(mut bytes: &[u8], addresses: &mut Vec<Address>) -> Dump {
    while let Some(header) = bytes.first_chunk::<HEADER_LEN>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == NLMSG_DONE || kind == NLMSG_ERROR || len < HEADER_LEN || len > bytes.len() {
            return Dump::Ended;
        }
        if kind == RTM_NEWADDR
            && let Some(address) = read_address(&bytes[HEADER_LEN..len])
        {
            addresses.push(address);
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Dump::GoesOn
}

/// An ifaddrmsg and its attributes. The local address is ours; on a point-to-point link the other one
/// is the peer's.
fn read_address(message: &[u8]) -> Option<Address> {
    let (fixed, mut attributes) = message.split_first_chunk::<ADDRESS_LEN>()?;
    let interface = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let (mut local, mut other) = (None, None);
    while let Some(&[l0, l1, k0, k1]) = attributes.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..len)?;
        match u16::from_ne_bytes([k0, k1]) {
            IFA_LOCAL => local = read_ip(fixed[0], value),
            IFA_ADDRESS => other = read_ip(fixed[0], value),
            _ => {}
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Address {
        interface,
        ip: local.or(other)?,
    })
}

fn read_ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_lists_the_loopback_address() {
        let addresses = dump().unwrap();
        assert!(addresses.iter().any(|a| a.ip.is_loopback()), "{addresses:?}");
        assert!(all().iter().all(|a| !a.ip.is_loopback()));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut addresses = Vec::new();
            read_messages(&bytes, &mut addresses);
            let _ = read_address(&bytes);
        }
    }
}
