//! `floor ADDRESS`: see [`sentinel_bench::floor`].

fn main() -> Result<(), Box<dyn std::error::Error>> {
    sentinel_bench::floor::run(&std::env::args().nth(1).ok_or("usage: floor ADDRESS")?)
}
