//! Numbers of the kernel's interface (`linux/netlink.h`, `rtnetlink.h`, `if_link.h`, `neighbour.h`, `net_namespace.h`).

pub(in super::super) const NLM_F_REQUEST: u16 = 0x1;
pub(in super::super) const NLM_F_ACK: u16 = 0x4;
pub(in super::super) const NLM_F_DUMP: u16 = 0x300;
pub(in super::super) const NLM_F_REPLACE: u16 = 0x100;
pub(in super::super) const NLM_F_EXCL: u16 = 0x200;
pub(in super::super) const NLM_F_CREATE: u16 = 0x400;
pub(in super::super) const NLM_F_APPEND: u16 = 0x800;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

pub(in super::super) const RTM_NEWLINK: u16 = 16;
pub(in super::super) const RTM_DELLINK: u16 = 17;
pub(in super::super) const RTM_GETLINK: u16 = 18;
pub(in super::super) const RTM_NEWADDR: u16 = 20;
pub(in super::super) const RTM_DELADDR: u16 = 21;
pub(in super::super) const RTM_GETADDR: u16 = 22;
pub(in super::super) const RTM_NEWROUTE: u16 = 24;
pub(in super::super) const RTM_DELROUTE: u16 = 25;
pub(in super::super) const RTM_GETROUTE: u16 = 26;
pub(in super::super) const RTM_NEWNEIGH: u16 = 28;
pub(in super::super) const RTM_DELNEIGH: u16 = 29;
pub(in super::super) const RTM_GETNEIGH: u16 = 30;
pub(in super::super) const RTM_GETNSID: u16 = 90;

pub(in super::super) const AF_UNSPEC: u8 = 0;
pub(in super::super) const AF_INET: u8 = 2;
pub(in super::super) const AF_BRIDGE: u8 = 7;
pub(in super::super) const AF_INET6: u8 = 10;

pub(in super::super) const IFF_UP: u32 = 1;
pub(in super::super) const IFLA_ADDRESS: u16 = 1;
pub(in super::super) const IFLA_IFNAME: u16 = 3;
pub(in super::super) const IFLA_MTU: u16 = 4;
pub(in super::super) const IFLA_LINK: u16 = 5;
pub(in super::super) const IFLA_MASTER: u16 = 10;
pub(in super::super) const IFLA_LINKINFO: u16 = 18;
pub(in super::super) const IFLA_IFALIAS: u16 = 20;
pub(in super::super) const IFLA_AF_SPEC: u16 = 26;
pub(in super::super) const IFLA_NET_NS_FD: u16 = 28;
pub(in super::super) const IFLA_EXT_MASK: u16 = 29;
pub(in super::super) const IFLA_LINK_NETNSID: u16 = 37;
pub(in super::super) const SKIP_STATS: u32 = 1 << 3;
pub(in super::super) const IFLA_INFO_KIND: u16 = 1;
pub(in super::super) const IFLA_INFO_DATA: u16 = 2;
pub(in super::super) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(in super::super) const IFLA_INFO_SLAVE_DATA: u16 = 5;
pub(in super::super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(in super::super) const VETH_INFO_PEER: u16 = 1;

pub(in super::super) const IFLA_BR_FORWARD_DELAY: u16 = 1;
pub(in super::super) const IFLA_BR_STP_STATE: u16 = 5;
pub(in super::super) const IFLA_BR_MCAST_SNOOPING: u16 = 23;
pub(in super::super) const IFLA_BRPORT_HAIRPIN: u16 = 4;
pub(in super::super) const IFLA_BRPORT_LEARNING: u16 = 8;
pub(in super::super) const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
pub(in super::super) const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
pub(in super::super) const IFLA_BRPORT_ISOLATED: u16 = 33;

pub(in super::super) const IFLA_VXLAN_ID: u16 = 1;
pub(in super::super) const IFLA_VXLAN_LINK: u16 = 3;
pub(in super::super) const IFLA_VXLAN_LOCAL: u16 = 4;
pub(in super::super) const IFLA_VXLAN_TTL: u16 = 5;
pub(in super::super) const IFLA_VXLAN_LEARNING: u16 = 7;
pub(in super::super) const IFLA_VXLAN_PROXY: u16 = 11;
pub(in super::super) const IFLA_VXLAN_PORT: u16 = 15;
pub(in super::super) const IFLA_VXLAN_LOCAL6: u16 = 17;
pub(in super::super) const IFLA_VXLAN_UDP_ZERO_CSUM6_TX: u16 = 19;
pub(in super::super) const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;

pub(in super::super) const IFA_ADDRESS: u16 = 1;
pub(in super::super) const IFA_LOCAL: u16 = 2;
pub(in super::super) const IFA_FLAGS: u16 = 8;
pub(in super::super) const IFA_PROTO: u16 = 11;
pub(in super::super) const IFA_F_NODAD: u32 = 0x02;
pub(in super::super) const IFA_F_NOPREFIXROUTE: u32 = 0x200;

pub(in super::super) const RTA_DST: u16 = 1;
pub(in super::super) const RTA_OIF: u16 = 4;
pub(in super::super) const RTA_GATEWAY: u16 = 5;
pub(in super::super) const RTA_PREFSRC: u16 = 7;
pub(in super::super) const RTA_METRICS: u16 = 8;
pub(in super::super) const RTA_TABLE: u16 = 15;
pub(in super::super) const RTA_VIA: u16 = 18;
pub(in super::super) const RTAX_MTU: u16 = 2;
pub(in super::super) const RTN_UNICAST: u8 = 1;
pub(in super::super) const RTN_BLACKHOLE: u8 = 6;
pub(in super::super) const RTN_UNREACHABLE: u8 = 7;
pub(in super::super) const RTNH_F_ONLINK: u32 = 4;
pub(in super::super) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(in super::super) const RT_SCOPE_LINK: u8 = 253;

pub(in super::super) const NDA_DST: u16 = 1;
pub(in super::super) const NDA_LLADDR: u16 = 2;
pub(in super::super) const NDA_MASTER: u16 = 9;
pub(in super::super) const NDA_PROTOCOL: u16 = 12;
pub(in super::super) const NTF_SELF: u8 = 2;
pub(in super::super) const NTF_MASTER: u8 = 4;
pub(in super::super) const NTF_PROXY: u8 = 8;
pub(in super::super) const NUD_REACHABLE: u16 = 0x02;
pub(in super::super) const NUD_NOARP: u16 = 0x40;
pub(in super::super) const NUD_PERMANENT: u16 = 0x80;

pub(in super::super) const NETNSA_NSID: u16 = 1;
pub(in super::super) const NETNSA_FD: u16 = 3;
