//! Sizes, ports and names, as Compose writes them.

use hivemind_core::resources::{ByteSize, MilliCpu};

/// The most ports that one range may have.
const MAX_RANGE: u16 = 1000;

/// `512m`, `1.5gb`, `1048576`: powers of 1024 with one- or two-letter units.
pub(super) fn byte_size(text: &str) -> Result<ByteSize, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let suffix = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => "",
        "k" | "kb" | "kib" => "Ki",
        "m" | "mb" | "mib" => "Mi",
        "g" | "gb" | "gib" => "Gi",
        "t" | "tb" | "tib" => "Ti",
        other => return Err(format!("size {text:?}: {other:?} is none of b, k, m, g, t")),
    };
    format!("{}{suffix}", number.trim()).parse().map_err(|e| format!("size {text:?}: {e}"))
}

/// `0.5`, `2`: cores.
pub(super) fn cpus(text: &str) -> Result<MilliCpu, String> {
    text.trim().parse().map_err(|e| format!("cpus {text:?}: {e}"))
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port of 1 to 65535")),
    }
}

/// `80`, `8080:80`, `127.0.0.1:8080-8081:80-81/udp`: the container's ports and the protocol.
pub(super) fn ports(text: &str) -> Result<Vec<(u16, String)>, String> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("port {text:?}: {protocol:?} is not tcp, udp or sctp"));
    }
    let container = rest.rsplit(':').next().unwrap_or(rest);
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let wrong = |e: String| format!("port {text:?}: {e}");
    let (first, last) = (port(first).map_err(wrong)?, port(last).map_err(wrong)?);
    if last < first || last - first >= MAX_RANGE {
        return Err(format!("port {text:?}: a range goes up, over at most {MAX_RANGE} ports"));
    }
    Ok((first..=last).map(|port| (port, protocol.to_owned())).collect())
}

/// A name as a DNS label: lower case, with `-` for what no label may hold.
pub(super) fn dns_label(name: &str) -> String {
    let mapped: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    mapped.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_cores() {
        for (text, bytes) in [("1b", 1), ("2k", 2048), ("1.5MB", 1_572_864), ("1g", 1 << 30), ("4096", 4096)]
        {
            assert_eq!(byte_size(text).unwrap().as_bytes(), bytes, "{text}");
        }
        for bad in ["", "m", "1x", "-1m", "0.3b"] {
            assert!(byte_size(bad).is_err(), "{bad}");
        }
        assert_eq!(cpus("0.25").unwrap().as_millis(), 250);
        assert!(cpus("half").is_err());
    }

    #[test]
    fn reads_ports() {
        let tcp = |ports: &[u16]| ports.iter().map(|port| (*port, "tcp".to_owned())).collect::<Vec<_>>();
        assert_eq!(ports("80").unwrap(), tcp(&[80]));
        assert_eq!(ports("127.0.0.1:8080:80").unwrap(), tcp(&[80]));
        assert_eq!(ports("[::1]:8080-8081:80-81").unwrap(), tcp(&[80, 81]));
        assert_eq!(ports("53:53/udp").unwrap(), [(53, "udp".to_owned())]);
        for bad in ["", "0", "65536", "http", "80-70", "1-65535", "80/xyz"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
