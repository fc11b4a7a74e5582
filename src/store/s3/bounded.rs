//! A bound on the answers that the SDK reads whole: pages of a listing, errors, answers to uploads. Only the body of a
//! successful `GetObject` is a stream; its reader has a bound of its own.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use http_body_util::Limited;

/// The longest such answer in bytes: a page has at most 1,000 keys of at most 1,024 bytes, which its encoding makes three
/// times as long.
pub(super) const LARGEST_ANSWER: usize = 16 << 20;

/// Makes longer answers fail.
#[derive(Debug)]
pub(super) struct Bounded;

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        let streamed = answer.status().is_success()
            && state.load::<Metadata>().is_some_and(|operation| operation.name() == "GetObject");
        if !streamed {
            let body = answer.take_body();
            *answer.body_mut() =
                body.map_preserve_contents(|body| SdkBody::from_body_1_x(Limited::new(body, LARGEST_ANSWER)));
        }
        Ok(())
    }
}
