//! How fast the way to a runner is: `POST /v1/measure` on its enrolment port.
//!
//! The body is thrown away, and the answer is 204. It takes no identity, since it is asked before there is one, so
//! that a runner bounds it: one at a time (503 to others), [`BYTES_MAX`] (413) and [`TIME_MAX`] (408).

use std::time::Duration;

pub const PATH: &str = "/v1/measure";

/// The most that a runner takes at a time.
pub const BYTES_MAX: u64 = 64 << 20;

/// For so long at most.
pub const TIME_MAX: Duration = Duration::from_secs(15);
