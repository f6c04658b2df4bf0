//! The memory that address management takes. By itself, since counting costs time.
//!
//! `cargo bench -p hivemind-net --bench ipam_memory`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench measures and tells")]

use hivemind_net::ipam::{Allocator, FreeBits, FreeRanges, Layout, Profile};

const MILLION: usize = 1_000_000;

fn layout(net: &str) -> Layout {
    Layout::new().with_subnet(net.parse().unwrap(), Profile::Routed, false)
}

fn main() {
    let bytes = |build: &dyn Fn() -> Allocator| {
        let mut kept = None;
        let used = allocation_counter::measure(|| kept = Some(build()));
        used.bytes_current
    };
    for (v4, v6) in [("10.0.0.0/8", "fd00::/64"), ("0.0.0.0/0", "::/0")] {
        let used = bytes(&|| Allocator::new(Some(layout(v4)), Some(layout(v6))));
        println!("an empty allocator of {v4} and {v6}: {} bytes", used + size_of::<Allocator>() as i64);
    }
    for (what, last) in [("a /8", (1u128 << 24) - 1), ("a /64", (1u128 << 64) - 1)] {
        let mut free = FreeBits::default();
        let used = allocation_counter::measure(|| {
            free = FreeBits::new(&FreeRanges::from_range(0, last));
            let mut left = MILLION;
            let mut n = 1u128;
            while left > 0 {
                n = (n * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & u128::from(u64::MAX);
                left -= usize::from(free.take(n.rotate_right(37) & last));
            }
        });
        let fragments = free.ranges().len();
        let each = used.bytes_current as f64 / fragments as f64;
        let mib = used.bytes_current >> 20;
        println!(
            "{what} with a million random addresses taken: {mib} MiB, {fragments} fragments, {each:.1} bytes each"
        );
    }
}
