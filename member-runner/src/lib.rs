//! member-runner
