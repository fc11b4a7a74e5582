//! The memory for batches that were asked for and are not packed yet.
//!
//! Each reader takes room before it asks the server for a batch, and the room is free again when the batch was packed. Namespaces
//! have turns: the room goes to the reader whose turn comes first, and a part of it is kept for the namespace whose turn it is.
//! This namespace's first reader never waits for room, nor does another one of its readers if nothing else of the namespace is
//! under way, so the run always goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// The room of a run. Clones share it.
#[derive(Clone)]
pub(super) struct Ahead(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// The turn of the namespace that is being packed.
    now: usize,
    /// Bytes that are not taken. Below 0, more was taken than planned.
    free: i64,
    /// Bytes that only the namespace whose turn it is may take.
    reserved: i64,
    /// The number of rooms that each turn has taken.
    taken: BTreeMap<usize, usize>,
    /// The readers that wait: their turns, and a number for each.
    waiting: BTreeSet<(usize, u64)>,
    /// The number of the next reader that waits.
    next: u64,
}

/// Room for a batch. It is free again when this is dropped.
pub(super) struct Room {
    turn: usize,
    bytes: i64,
    ahead: Ahead,
}

impl Ahead {
    /// Makes room for `bytes`, of which `reserved` are only for the namespace whose turn it is.
    pub fn new(bytes: usize, reserved: usize) -> Ahead {
        let (free, reserved) = (bytes as i64, reserved as i64);
        let state =
            State { now: 0, free, reserved, taken: BTreeMap::new(), waiting: BTreeSet::new(), next: 0 };
        Ahead(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Begins the turn of a namespace.
    pub fn turn(&self, turn: usize) {
        self.change(|state| state.now = turn);
    }

    /// Waits for the turn of a namespace.
    pub async fn until(&self, turn: usize) {
        self.when(|state| (state.now >= turn).then_some(())).await;
    }

    /// Waits for room for `bytes`. `first` is true for the namespace's first reader.
    pub async fn take(&self, turn: usize, first: bool, bytes: usize) -> Room {
        let bytes = bytes as i64;
        let mine = {
            let mut state = self.lock();
            state.next += 1;
            let mine = (turn, state.next);
            state.waiting.insert(mine);
            mine
        };
        self.when(|state| {
            let now = turn <= state.now;
            let room = if now { state.free } else { state.free - state.reserved };
            let fits = room >= bytes || (now && !state.taken.contains_key(&turn));
            if !((now && first) || (state.waiting.first() == Some(&mine) && fits)) {
                return None;
            }
            state.waiting.remove(&mine);
            state.free -= bytes;
            *state.taken.entry(turn).or_default() += 1;
            Some(())
        })
        .await;
        // The next one in the queue may fit in as well.
        self.0.changed.notify_waiters();
        Room { turn, bytes, ahead: self.clone() }
    }

    /// Waits until `ready` returns a value. It is called again after each change.
    async fn when<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // A change after this is not missed.
            changed.as_mut().enable();
            let value = ready(&mut self.lock());
            if let Some(value) = value {
                return value;
            }
            changed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder panics")
    }
}

impl Room {
    /// Corrects the size when the batch has arrived.
    pub fn resize(&mut self, bytes: usize) {
        let more = bytes as i64 - self.bytes;
        self.bytes = bytes as i64;
        self.ahead.change(|state| state.free -= more);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Room { turn, bytes, ahead } = self;
        ahead.change(|state| {
            state.free += *bytes;
            let taken = state.taken.get_mut(turn).expect("this room was taken");
            *taken -= 1;
            if *taken == 0 {
                state.taken.remove(turn);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn free(ahead: &Ahead) -> i64 {
        ahead.lock().free
    }

    #[test]
    fn the_earlier_turn_gets_the_room_and_its_first_reader_never_waits() {
        let ahead = Ahead::new(10, 4);
        let first = ahead.take(1, true, 6).now_or_never().expect("room that is not reserved");
        assert!(ahead.take(1, false, 1).now_or_never().is_none());
        let ahead = Ahead::new(10, 4);
        drop(first);
        // The namespace whose turn it is may take what is reserved.
        let all = ahead.take(0, false, 10).now_or_never().expect("all of it");
        let beyond = ahead.take(0, true, 5).now_or_never().expect("the first reader goes on");
        assert_eq!(free(&ahead), -5);
        let (mut late, mut early) = (Box::pin(ahead.take(2, false, 3)), Box::pin(ahead.take(1, false, 3)));
        assert!(late.as_mut().now_or_never().is_none() && early.as_mut().now_or_never().is_none());
        drop((all, beyond));
        assert!(late.as_mut().now_or_never().is_none(), "the turn before it waits");
        let mut early = early.as_mut().now_or_never().expect("room");
        let late = late.as_mut().now_or_never().expect("room");
        assert_eq!(free(&ahead), 4);
        early.resize(8);
        assert_eq!(free(&ahead), -1);
        // Nothing of the namespace whose turn it is is under way, so it need not wait for the others.
        let own = ahead.take(0, false, 3).now_or_never().expect("one batch");
        assert!(ahead.take(0, false, 3).now_or_never().is_none());
        drop((early, late, own));
        assert_eq!(free(&ahead), 10);
    }

    #[test]
    fn a_reader_that_waits_is_woken_when_its_turn_comes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let ahead = Ahead::new(1, 1);
            let waiting = tokio::spawn({
                let ahead = ahead.clone();
                async move { ahead.take(3, true, 100).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            ahead.turn(3);
            drop(waiting.await.unwrap());
            assert_eq!(free(&ahead), 1);
            assert!(ahead.until(4).now_or_never().is_none());
            ahead.until(3).await;
        });
    }
}
