//! Where runs are recorded, checked without touching the network.

use super::layers::Layers;
use super::uri;
use crate::base::error::Result;
use crate::base::secret::Secret;

/// Where runs are recorded.
#[derive(Debug, Clone)]
pub enum RecordsAt {
    /// Nowhere.
    Off,
    /// On this server.
    Server(Secret),
}

impl RecordsAt {
    /// Understands the setting `records`; without it, the server that is backed up.
    pub(super) fn resolve(layers: &Layers) -> Result<RecordsAt> {
        match layers.text("records").map(str::trim) {
            Some("off") => Ok(RecordsAt::Off),
            Some(text) => {
                // Its errors name options, and never their values.
                uri::read_named("records (BACKUP_RECORDS)", text)?;
                uri::check(text).map_err(|_| {
                    // The value may hold a password, and what the driver says of it may quote it.
                    let why = "neither off nor a valid connection string; BACKUP_RECORDS looks like \
                               mongodb://user:password@host:27017/, and the characters @ : / % $ of a password \
                               are percent-encoded";
                    layers.wrong("records", why)
                })?;
                Ok(RecordsAt::Server(Secret::from(text.to_string())))
            }
            None => {
                let text = layers.text("mongo_uri").expect("it has a default");
                uri::check(text)?;
                Ok(RecordsAt::Server(Secret::from(text.to_string())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::exit::Exit;
    use crate::base::secret::ExposeSecret;

    fn resolve(env: &[(&str, &str)]) -> Result<RecordsAt> {
        let env = |name: &str| match name {
            "UZIMA_BACKUP_CONFIG" => Some("/dev/null".into()),
            _ => env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()),
        };
        RecordsAt::resolve(&Layers::load(Default::default(), &env, None).unwrap())
    }

    fn server(recorded: Result<RecordsAt>) -> String {
        match recorded.unwrap() {
            RecordsAt::Off => "off".into(),
            RecordsAt::Server(uri) => uri.expose_secret().to_string(),
        }
    }

    #[test]
    fn by_default_the_server_that_is_backed_up() {
        assert_eq!(server(resolve(&[])), "mongodb://localhost:27017");
        assert_eq!(server(resolve(&[("MONGO_URI", "mongodb://db1")])), "mongodb://db1");
        let both = [("MONGO_URI", "mongodb://db1"), ("BACKUP_RECORDS", "mongodb://db2")];
        assert_eq!(server(resolve(&both)), "mongodb://db2");
        assert_eq!(server(resolve(&[("MONGO_URI", "nonsense"), ("BACKUP_RECORDS", "off")])), "off");
    }

    #[test]
    fn a_wrong_value_is_named_and_not_shown() {
        for value in ["no", "Off", "mongodb://", "mongodb://u:hunt@er2@h", "http://u:hunter2@h", "db1:27017"]
        {
            let error = resolve(&[("BACKUP_RECORDS", value)]).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let text = error.chain();
            assert!(text.contains("BACKUP_RECORDS") && !text.contains("hunt"), "{text}");
        }
        assert_eq!(resolve(&[("MONGO_URI", "nonsense")]).unwrap_err().exit(), Exit::Usage);
    }
}
