//! What grants take in memory, beside rs-tenant:
//! `cargo bench --manifest-path examples/peers/Cargo.toml --bench memory`.

use allocation_counter::measure;
use peers::access::hivemind::Hivemind;
use peers::access::rs_tenant::RsTenant;

fn bytes_each<T>(bindings: usize, build: impl FnOnce(usize) -> T) -> u64 {
    let mut kept = None;
    let info = measure(|| kept = Some(build(bindings)));
    info.bytes_current.unsigned_abs() / bindings as u64
}

fn main() {
    println!("bytes for each binding, with one tenant for ten of them");
    println!("  {:>12} {:>12} {:>12}", "bindings", "hivemind", "rs-tenant");
    for bindings in [1_000, 10_000, 100_000, 1_000_000] {
        let (ours, theirs) = (bytes_each(bindings, Hivemind::new), bytes_each(bindings, RsTenant::new));
        println!("  {bindings:>12} {ours:>12} {theirs:>12}");
    }
}
