//! The address ranges to which no connection goes, and what lies inside an IPv6 address.
//!
//! Source: the IANA special-purpose address registries (RFC 6890), with multicast, the deprecated ranges, and cloud
//! metadata services that have public addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What an address is, if it is not public.
pub(super) fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(start[0], start[1], start[2], start[3], 0, 0, 0, 0), prefix)
}

const REFUSED_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "it means this network"),
    (v4(10, 0, 0, 0, 8), "it is private"),
    (v4(100, 64, 0, 0, 10), "it is shared by a carrier's customers"),
    (v4(127, 0, 0, 0, 8), "it is this machine itself"),
    (v4(168, 63, 129, 16, 32), "it is a cloud's metadata service"),
    (v4(169, 254, 0, 0, 16), "it is link-local, where cloud metadata services live"),
    (v4(172, 16, 0, 0, 12), "it is private"),
    (v4(192, 0, 0, 0, 24), "it is reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "it is reserved for documentation"),
    (v4(192, 88, 99, 0, 24), "it is a deprecated relay"),
    (v4(192, 168, 0, 0, 16), "it is private"),
    (v4(198, 18, 0, 0, 15), "it is reserved for benchmarks"),
    (v4(198, 51, 100, 0, 24), "it is reserved for documentation"),
    (v4(203, 0, 113, 0, 24), "it is reserved for documentation"),
    (v4(224, 0, 0, 0, 4), "it is multicast"),
    (v4(240, 0, 0, 0, 4), "it is reserved or broadcast"),
];

const CARRIES_V4: &str = "it carries an IPv4 address";

/// The first entry that contains an address counts, so the narrow ones stand above the wide ones.
const REFUSED_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "it means no address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "it is this machine itself"),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96), CARRIES_V4),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), CARRIES_V4),
    (v6([0x64, 0xff9b, 0, 0], 96), CARRIES_V4),
    (v6([0x64, 0xff9b, 1, 0], 48), CARRIES_V4),
    (v6([0x2001, 0, 0, 0], 32), CARRIES_V4),
    (v6([0x2001, 0, 0, 0], 23), "it is reserved for protocols"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "it is reserved for documentation"),
    (v6([0x2002, 0, 0, 0], 16), CARRIES_V4),
    (v6([0x3fff, 0, 0, 0], 20), "it is reserved for documentation"),
    (v6([0xfc00, 0, 0, 0], 7), "it is private"),
    (v6([0xfe80, 0, 0, 0], 10), "it is link-local"),
    (v6([0xfec0, 0, 0, 0], 10), "it is site-local"),
    (v6([0xff00, 0, 0, 0], 8), "it is multicast"),
];

/// All public IPv6 addresses in use lie here.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    REFUSED_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why)
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let named = REFUSED_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why);
    named.or((!GLOBAL_V6.contains(&address)).then_some("it is not public"))
}

/// The IPv4 address to which traffic for an IPv6 address goes in the end.
///
/// Source: RFC 4291 §2.5.5 (compatible, mapped), RFC 6052 §2.2 (NAT64), RFC 3056 §2 (6to4), RFC 4380 §4 (Teredo).
pub(super) fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let o = address.octets();
    let at = |i: usize| Some(Ipv4Addr::new(o[i], o[i + 1], o[i + 2], o[i + 3]));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => at(12),
        // Octet 8 is zero in the /48 form; in practice the address often stands at the end instead, as in the /96 form.
        [0x64, 0xff9b, 1, _, _, _, 0, 0] => Some(Ipv4Addr::new(o[6], o[7], o[9], o[10])),
        [0x64, 0xff9b, 1, ..] => at(12),
        [0x2002, ..] => at(2),
        [0x2001, 0, ..] => Some(Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15])),
        _ => None,
    }
}
