//! The least that ingest can be with the crates that it is built with: an event's calls, the same and as large, and
//! nothing of what makes them right. No configuration, no credentials, no card, no log and no metric.

use lambda_http::{Body, Error, Request, Response, service_fn};
use sentinel_aws::{Aws, CallLimits, environment};
use sentinel_bench::least::Least;

/// As the functions have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = environment();
    let variable = |name: &str| env.get(name).cloned();
    let aws = Aws::of_function(&variable, &std::env::current_dir()?, CallLimits::AWS)?;
    let least = Least::new(&aws, &variable)?;
    let least = &least;
    let answer = service_fn(|request: Request| async move {
        Ok::<_, Error>(Response::new(Body::from(least.answer(request.body()).await?)))
    });
    lambda_http::run(answer).await
}
