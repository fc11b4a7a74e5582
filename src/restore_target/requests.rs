//! Counts the commands that a server has not answered yet.

use std::sync::Arc;

use tokio::sync::watch;

/// The number of commands under way; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<watch::Sender<usize>>);

/// One command under way, until it is dropped.
#[derive(Debug)]
pub struct Running(Requests);

impl Requests {
    /// Counts a command.
    pub fn begin(&self) -> Running {
        self.0.send_modify(|count| *count += 1);
        Running(self.clone())
    }

    /// Waits until no command is under way.
    pub async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn none_waits_for_every_running_command() {
        let requests = Requests::default();
        requests.none().await;
        let (first, second) = (requests.begin(), requests.begin());
        drop(first);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, requests.none()).await.is_err());
        drop(second);
        requests.none().await;
    }
}
