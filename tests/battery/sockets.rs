//! Sockets: families that are kernel code without a use for builds, and what can be reached of the host.

use std::net::{Ipv4Addr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use nix::libc;

use crate::namespaces::set_mtu;
use crate::probe::{How, Outcome, Probe, attack, call, denied, name, socket};
use crate::stage::Stage;

const STREAM: i32 = libc::SOCK_STREAM;
const DGRAM: i32 = libc::SOCK_DGRAM;
const RAW: i32 = libc::SOCK_RAW;

const fn family(name: &'static str, stands_for: &'static str, family: i32, kind: i32, protocol: i32) -> Probe {
    Probe { name, stands_for, guards: "filter", is_need: false, how: How::Socket(family, kind, protocol) }
}

pub(crate) const PROBES: &[Probe] = &[
    family("socket-vsock", "the hypervisor, past all network namespaces; CVE-2021-26708", libc::AF_VSOCK, STREAM, 0),
    family("socket-alg", "the kernel's cryptography, CVE-2022-48781 and kin", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    family("socket-packet", "raw frames, CVE-2016-8655, CVE-2020-14386", libc::AF_PACKET, RAW, 0),
    family("socket-xdp", "raw rings", libc::AF_XDP, RAW, 0),
    family("socket-tipc", "CVE-2021-43267, CVE-2022-0435", libc::AF_TIPC, STREAM, 0),
    family("socket-rds", "CVE-2010-3904", libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
    family("socket-can", "CVE-2021-34693", libc::AF_CAN, RAW, 1),
    family("socket-bluetooth", "CVE-2020-12351", libc::AF_BLUETOOTH, RAW, 1),
    family("socket-key", "IPsec's keys, CVE-2022-27666", 15, RAW, 2),
    family("socket-sctp", "a protocol that nobody builds with, CVE-2021-23133", libc::AF_INET, STREAM, 132),
    family("socket-dccp", "CVE-2017-6074", libc::AF_INET, 6, 33),
    family("socket-mptcp", "a protocol that nobody builds with", libc::AF_INET, STREAM, 262),
    family("socket-udplite", "a protocol that nobody builds with", libc::AF_INET, DGRAM, 136),
    family("netlink-diag", "lists sockets; has the kernel load modules", libc::AF_NETLINK, RAW, 4),
    family("netlink-xfrm", "IPsec, CVE-2017-16939", libc::AF_NETLINK, RAW, 6),
    family("netlink-audit", "the host's audit log", libc::AF_NETLINK, RAW, 9),
    family("netlink-netfilter", "nf_tables: CVE-2023-32233, CVE-2024-1086", libc::AF_NETLINK, RAW, 12),
    family("netlink-uevent", "hears of and forges device events, CVE-2009-1185", libc::AF_NETLINK, RAW, 15),
    family("netlink-generic", "families by name, which load modules", libc::AF_NETLINK, RAW, 16),
    attack("socketpair-vsock", "a family by its pairs, which are made before it is asked", "filter", pair),
    attack("socket-raw", "forges packets", "second-user-namespace capabilities", raw),
    attack("network-change", "changes the network", "second-user-namespace capabilities", |_| set_mtu()),
    attack("host-interfaces", "sees the host's networks", "network-namespace", interfaces),
    attack("host-tcp", "services that listen on the host's 127.0.0.1", "network-namespace", tcp),
    attack(
        "host-abstract-socket",
        "abstract sockets of the host's (X11, D-Bus), and of accomplices: CVE-2020-15257, CVE-2024-27297",
        "network-namespace landlock-scope",
        abstract_socket,
    ),
];

fn pair(_: &Stage) -> Outcome {
    let pair = [0_i32; 2];
    match call(libc::SYS_socketpair, [40, 1, 0, crate::probe::at(&pair), 0]) {
        result @ (-97 | -93) => Ok(name(result)),
        result => Err(name(result)),
    }
}

fn raw(_: &Stage) -> Outcome {
    crate::probe::refused(socket(libc::AF_INET, RAW, 1))
}

fn interfaces(_: &Stage) -> Outcome {
    let text = bindery::fs::read_to_string(Path::new("/proc/self/net/dev")).map_err(|e| e.to_string())?;
    let names: Vec<_> = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    if names.iter().all(|name| *name == "lo") { Ok(format!("{names:?}")) } else { Err(format!("{names:?}")) }
}

fn tcp(stage: &Stage) -> Outcome {
    denied(TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port)))
}

fn abstract_socket(stage: &Stage) -> Outcome {
    let address = SocketAddr::from_abstract_name(&stage.abstract_name).map_err(|e| e.to_string())?;
    denied(UnixStream::connect_addr(&address))
}
