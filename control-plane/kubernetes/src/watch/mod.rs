//! List and watch of one resource: the pure state machine, its connection, and the task that runs both.

pub(crate) mod failure;
pub(crate) mod state;
mod stream;
pub(crate) mod task;
