//! What holds for every call to AWS of one process: it ends by the deadline of whoever it is for, and throttling is
//! counted, also where a second attempt mends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::timeout::TimeoutConfig;
use sentinel_core::UnixMs;
use tokio::time::Instant;

use crate::error::is_throttled;

/// When an invocation is over that came `now` with this deadline, in milliseconds since 1970. One that was over before it
/// came is none (`cargo lambda watch` says 1970): it has the time that it would have on Lambda, `otherwise`.
pub fn deadline(given: u64, now: UnixMs, otherwise: Duration) -> UnixMs {
    let given = UnixMs::new(i64::try_from(given).unwrap_or(i64::MAX));
    if given > now { given } else { now.plus(otherwise) }
}

/// Shared by all clients of one [`Aws`](crate::Aws). Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<State>);

#[derive(Debug, Default)]
struct State {
    end: Mutex<Option<Instant>>,
    throttled: AtomicU64,
}

impl Calls {
    /// Every call that begins from now on has ended by `end`, with an error that names what it was for. For a function,
    /// which has one invocation at a time.
    pub fn end_by(&self, end: Instant) {
        *self.0.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// How many attempts were throttled since this was asked last.
    pub fn take_throttled(&self) -> u64 {
        self.0.throttled.swap(0, Ordering::Relaxed)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "Calls"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(end) = *self.0.end.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let left = end.saturating_duration_since(Instant::now());
        let limits = cfg.load::<TimeoutConfig>().cloned().unwrap_or_else(TimeoutConfig::disabled);
        if limits.operation_timeout().is_none_or(|limit| left < limit) {
            cfg.interceptor_state().store_put(limits.to_builder().operation_timeout(left).build());
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let throttled = context.response().is_some_and(|response| {
            let status = response.status().as_u16();
            let body = response.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
            status >= 400 && is_throttled(status, &body)
        });
        if throttled {
            self.0.throttled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
