//! See [`sentinel_bench::servers`].

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    sentinel_bench::servers::run().await
}
