//! See [`sentinel_bench::agent`].

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    sentinel_bench::agent::run().await
}
