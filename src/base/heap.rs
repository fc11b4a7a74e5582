//! Large futures on the heap.

use std::pin::Pin;

/// Makes a future on the heap. In a build without optimization, a function keeps room on its stack for every future that it
/// makes, also for one that it moves into a box at once. Here this room is given back before the future runs.
pub fn on_heap<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}
