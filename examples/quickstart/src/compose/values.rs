//! Sizes, ports, mounts and names, as Compose writes them.

use std::net::IpAddr;

use hivemind_core::resources::{ByteSize, MilliCpu};

use super::text::quote;

/// `512m`, `1.5gb`, `1048576`: powers of 1024 with one- or two-letter units.
pub(super) fn byte_size(text: &str) -> Result<ByteSize, String> {
    let text = text.trim();
    let wrong = |e: String| format!("size {}: {e}", quote(text));
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let suffix = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => "",
        "k" | "kb" | "kib" => "Ki",
        "m" | "mb" | "mib" => "Mi",
        "g" | "gb" | "gib" => "Gi",
        "t" | "tb" | "tib" => "Ti",
        _ => return Err(wrong(format!("{} is none of b, k, m, g, t", quote(unit)))),
    };
    format!("{}{suffix}", number.trim())
        .parse()
        .map_err(|e: hivemind_core::resources::InvalidQuantity| wrong(e.to_string()))
}

/// `0.5`, `2`: cores. Not `250m`, which Kubernetes reads and Compose does not.
pub(super) fn cpus(text: &str) -> Result<MilliCpu, String> {
    let text = text.trim();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(format!("cpus {}: Compose takes a decimal number of cpus, such as 0.25", quote(text)));
    }
    text.parse().map_err(|e| format!("cpus {}: {e}", quote(text)))
}

fn port(text: &str, least: u16) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port >= least => Ok(port),
        _ => Err(format!("{} is not a port of {least} to {}", quote(text), u16::MAX)),
    }
}

/// `80`, `8000-8010`.
fn range(text: &str, least: u16) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first, least)?, port(last, least)?);
    if last < first {
        return Err(format!("range {} goes down", quote(text)));
    }
    Ok((first, last))
}

/// The ports of a container, and those of the host, which are checked and not used: `80` and `8080`, `80-81` and
/// `8080-8081`.
pub(super) fn port_pair(host: &str, container: &str) -> Result<(u16, u16), String> {
    let (first, last) = range(container, 1)?;
    // The host chooses if nothing is said, or the port is 0.
    let (from, to) = if host.is_empty() { (first, last) } else { range(host, 0)? };
    if first != last && to - from != last - first {
        return Err(format!(
            "the host's ports {} are not as many as the container's {}",
            quote(host),
            quote(container)
        ));
    }
    Ok((first, last))
}

/// `80`, `8080:80`, `127.0.0.1:8080-8081:80-81/udp`: the container's ports and the protocol.
pub(super) fn ports(text: &str) -> Result<(u16, u16, &str), String> {
    let wrong = |e: String| format!("port {}: {e}", quote(text));
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(wrong(format!("{} is not tcp, udp or sctp", quote(protocol))));
    }
    let (outside, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, host) = outside.rsplit_once(':').unwrap_or(("", outside));
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(wrong(format!("{} is no IP address", quote(ip))));
    }
    let (first, last) = port_pair(host, container).map_err(wrong)?;
    Ok((first, last, protocol))
}

/// Where what is mounted comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source<'t> {
    /// A volume without a name.
    Anonymous,
    /// A volume of the file.
    Volume(&'t str),
    /// A path of the host.
    Host(&'t str),
    /// A path of a host that runs Windows.
    Windows(&'t str),
    /// No volume and no path: a type of mount.
    Other(&'t str),
}

impl<'t> Source<'t> {
    /// What the text means.
    pub(super) fn of(text: &'t str) -> Self {
        if text.is_empty() {
            Self::Anonymous
        } else if windows(text) {
            Self::Windows(text)
        } else if text.starts_with(['.', '/', '~']) {
            Self::Host(text)
        } else {
            Self::Volume(text)
        }
    }
}

/// `C:\data`, `C:/data`, `\\server\data`.
fn windows(text: &str) -> bool {
    let mut chars = text.chars();
    let drive = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':');
    text.starts_with("\\\\") || drive && matches!(chars.next(), Some('/' | '\\'))
}

/// `/cache`, `data:/data`, `./conf:/conf:ro`: the source, the target, and whether it is only read.
pub(super) fn mount(text: &str) -> Result<(Source<'_>, &str, bool), String> {
    // The colon of a drive stands in the source: `C:/x:/d`, unlike `c:/d:ro`, where `c` is a volume.
    let more = text.get(2..).is_some_and(|rest| rest.contains('\\') || rest.contains(":/"));
    let drive = if windows(text) && more { 2 } else { 0 };
    let end = text.get(drive..).and_then(|rest| rest.find(':')).map(|at| at + drive);
    let Some((source, rest)) = end.and_then(|end| text.split_at_checked(end)) else {
        return Ok((if drive > 0 { Source::Windows(text) } else { Source::Anonymous }, text, false));
    };
    let parts: Vec<_> = rest.split(':').skip(1).collect();
    if source.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("mount {} has nothing before or after a colon", quote(text)));
    }
    let (target, options) = match parts.as_slice() {
        [target] => (*target, ""),
        [target, options] => (*target, *options),
        _ => return Err(format!("mount {} is not `source:target` or `source:target:options`", quote(text))),
    };
    let source = if drive > 0 { Source::Windows(source) } else { Source::of(source) };
    Ok((source, target, options.split(',').any(|option| option == "ro")))
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
        for bad in ["half", "250m", "1e1", "-1", "", "1Ki", ".nan"] {
            assert!(cpus(bad).unwrap_err().contains("a decimal number of cpus"), "{bad}");
        }
    }

    #[test]
    fn reads_ports() {
        for (text, expected) in [
            ("80", (80, 80, "tcp")),
            ("127.0.0.1:8080:80", (80, 80, "tcp")),
            ("127.0.0.1::80", (80, 80, "tcp")),
            ("[::1]:8080-8081:80-81", (80, 81, "tcp")),
            ("53:53/udp", (53, 53, "udp")),
            ("8000-8010:80", (80, 80, "tcp")),
            ("10000-20000:10000-20000/udp", (10_000, 20_000, "udp")),
        ] {
            assert_eq!(ports(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "65536", "http", "80-70", "80/xyz", "x:80", "99999:80", "1-3:80-81", "host:1:80"]
        {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_mounts() {
        for (text, expected) in [
            ("/cache", (Source::Anonymous, "/cache", false)),
            ("d:/d:ro,z", (Source::Volume("d"), "/d", true)),
            ("./c:/c:rw", (Source::Host("./c"), "/c", false)),
            ("C:\\x:/d:ro", (Source::Windows("C:\\x"), "/d", true)),
            ("C:/x:/d", (Source::Windows("C:/x"), "/d", false)),
            ("c:/d", (Source::Volume("c"), "/d", false)),
        ] {
            assert_eq!(mount(text).unwrap(), expected, "{text}");
        }
        for bad in [":/d", "d:", "d::ro", "a:b:c:d"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
