//! Memory that is bounded: who takes of it waits until there is enough.

use std::sync::{Arc, Condvar, Mutex};

/// How many raw bytes may be in flight.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

/// A share of the budget, given back on drop.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Waits for a share; blocks the thread. A share larger than the whole budget takes all of it.
    pub fn take(self: &Arc<Budget>, bytes: usize) -> Room {
        let bytes = bytes.min(self.limit);
        let used = self.used.lock().expect("no holder panics");
        let mut used =
            self.freed.wait_while(used, |used| *used + bytes > self.limit).expect("no holder panics");
        *used += bytes;
        Room { budget: self.clone(), bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *self.budget.used.lock().expect("no holder panics") -= self.bytes;
        // Shares differ in size: the next one in the queue may still not fit where another one does.
        self.budget.freed.notify_all();
    }
}
