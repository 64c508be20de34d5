//! See [`sentinel_bench::stub`].

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    sentinel_bench::stub::run().await
}
