//! Whether all that a run read is of one server's life.

use mongodb::Client;

use crate::base::error::{Error, Kind, Result};
use crate::mongo::hello::Hello;
use crate::mongo::patience;
use crate::mongo::server::Server;

impl Server {
    /// Whether `now` is the process that the run began with, in the same role: only then record ids
    /// mean the same. In words what changed, if not.
    pub fn changed(&self, now: &Hello) -> Option<String> {
        if now.process != self.hello.process {
            Some(format!("MongoDB at {} was restarted", self.hello.address))
        } else if now.primary != self.hello.primary {
            let role = if now.primary { "became primary" } else { "stepped down" };
            Some(format!("MongoDB at {} {role}", self.hello.address))
        } else if now.election != self.hello.election {
            // What it took meanwhile from the other primary may have undone what was read before.
            Some(format!("MongoDB at {} stepped down and was elected again", self.hello.address))
        } else {
            None
        }
    }

    /// Asks the member whether it is.
    ///
    /// # Errors
    /// [`Kind::Restart`] if not: a new run may succeed.
    pub async fn prove_unchanged(&self, client: &Client) -> Result<()> {
        let now = self
            .hello_now(client)
            .await
            .map_err(|e| self.explain_late("cannot ask for the member's state at the end", e))?;
        match self.changed(&now) {
            Some(what) => Err(Error::restart(format!("{what} during the run"))),
            None => Ok(()),
        }
    }

    /// As [`explain`](Server::explain), of a question behind the documents: if the member was waited for in
    /// vain, another one may have taken over, which only a new run can read.
    pub fn explain_late(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let waited = patience::waited(&error) || self.patience.in_vain().is_some();
        let error = self.explain(doing, error);
        if waited { error.of_kind(Kind::Restart) } else { error }
    }
}
