//! The mark of a restore with `--swap`: a document at the target that says which collections it made and moved. With it, another run
//! finishes or reverts what an interrupted one began, and nothing is dropped that the restore did not make or move.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::selection::KEPT_PREFIX;
pub(super) use crate::config::selection::loaded_name as loaded;
use crate::restore_target::aside::{Expiry, Move, Uuids};

/// What a restore with `--swap` is doing, or has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapState {
    /// The new collections are filled. If the run was killed, they are incomplete.
    Loading,
    /// The collections are moved. If the run was killed, some of them may be at their old names.
    Moving,
    /// All collections are where they should be.
    Settled,
}

/// The collections of a swap that have the names of the live ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapSide {
    /// The collections that the restore filled.
    Restored,
    /// The collections that were live before the restore.
    Earlier,
}

impl SwapSide {
    /// The word in texts and JSON.
    pub fn word(self) -> &'static str {
        match self {
            SwapSide::Restored => "restored",
            SwapSide::Earlier => "earlier",
        }
    }

    pub(super) fn other(self) -> SwapSide {
        match self {
            SwapSide::Restored => SwapSide::Earlier,
            SwapSide::Earlier => SwapSide::Restored,
        }
    }
}

/// The mark of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RestoreMark {
    /// The restore's own id.
    #[serde(rename = "_id")]
    pub id: String,
    pub format: u32,
    /// The backup or dump.
    pub from: String,
    pub started_at: bson::DateTime,
    /// When the state was written.
    pub changed_at: bson::DateTime,
    pub state: SwapState,
    /// True for a restore with `--filter` or `--merge`, which moves nothing in: its new collections are staging collections.
    #[serde(default)]
    pub staging: bool,
    /// The collections that have the live names, or shall have them.
    pub live: SwapSide,
    pub collections: Vec<MarkedCollection>,
}

/// A collection of a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MarkedCollection {
    pub db: String,
    /// The name when it is live.
    pub name: String,
    /// The UUID of the collection that was there before, in hex; `None` if there was none.
    pub earlier: Option<String>,
    /// The UUID of the collection that the restore filled, in hex; `None` while it is not complete.
    pub restored: Option<String>,
    /// Expiries that are stopped while the collection is aside.
    pub expiries: Vec<MarkedExpiry>,
    /// The names to which collections of others were moved that appeared under the live name in the meantime.
    pub strangers: Vec<String>,
}

/// The expiry of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MarkedExpiry {
    pub of: SwapSide,
    /// `None` for a clustered index.
    pub index: Option<String>,
    pub seconds: i64,
}

impl MarkedExpiry {
    pub(super) fn expiry(&self) -> Expiry {
        Expiry { index: self.index.clone(), seconds: self.seconds }
    }
}

/// The UUIDs of the collections with the names of a restore, in hex.
pub(super) type HexUuids = BTreeMap<(String, String), String>;

pub(super) fn in_hex(uuids: Uuids) -> HexUuids {
    let hex = |uuid: Vec<u8>| uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    uuids.into_iter().map(|(key, uuid)| (key, hex(uuid))).collect()
}

/// The name of a collection that was moved aside.
pub(super) fn kept(id: &str, name: &str) -> String {
    format!("{KEPT_PREFIX}{id}_{name}")
}

impl MarkedCollection {
    /// A collection of which nothing is known but its name.
    pub(super) fn new(db: String, name: String) -> MarkedCollection {
        MarkedCollection {
            db,
            name,
            earlier: None,
            restored: None,
            expiries: Vec::new(),
            strangers: Vec::new(),
        }
    }

    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.db, self.name)
    }

    pub(super) fn uuid(&self, side: SwapSide) -> Option<&str> {
        match side {
            SwapSide::Restored => self.restored.as_deref(),
            SwapSide::Earlier => self.earlier.as_deref(),
        }
    }

    /// The UUID of the collection with this name.
    pub(super) fn at<'u>(&self, name: &str, uuids: &'u HexUuids) -> Option<&'u str> {
        uuids.get(&(self.db.clone(), name.to_string())).map(String::as_str)
    }

    /// The name of a side's collection that is not live.
    pub(super) fn aside(&self, id: &str, side: SwapSide, uuids: &HexUuids) -> Option<String> {
        let uuid = self.uuid(side)?;
        [kept(id, &self.name), loaded(id, &self.name)]
            .into_iter()
            .find(|name| self.at(name, uuids) == Some(uuid))
    }

    /// The moves after which the collection of a side is live and no other one is. None of their new names is in use.
    ///
    /// # Errors
    /// Returns why this is impossible: the collection does not exist any more, or a name is in use.
    pub(super) fn moves(&self, id: &str, want: SwapSide, uuids: &HexUuids) -> Result<Vec<Move>, String> {
        let one = |from: &str, to: &str| Move { db: self.db.clone(), from: from.into(), to: to.into() };
        let (loaded, kept) = (loaded(id, &self.name), kept(id, &self.name));
        let (live, wanted) = (self.at(&self.name, uuids), self.uuid(want));
        if live == wanted {
            return Ok(Vec::new());
        }
        let mut taken: Vec<&str> = [&loaded, &kept]
            .into_iter()
            .filter(|name| self.at(name, uuids).is_some())
            .map(String::as_str)
            .collect();
        let from = match wanted {
            None => None,
            Some(uuid) => {
                Some(*taken.iter().find(|name| self.at(name, uuids) == Some(uuid)).ok_or_else(|| {
                    format!("the collection for {} does not exist any more", self.full_name())
                })?)
            }
        };
        let mut moves = Vec::new();
        let is_stranger = live.is_some() && live != self.uuid(want.other());
        let aside = match (live, self.strangers.last().filter(|_| is_stranger), from) {
            (None, _, _) => None,
            (Some(_), Some(name), _) => Some((name.as_str(), None)),
            // The names are exchanged.
            (Some(_), None, Some(from)) if from == kept => {
                Some((loaded.as_str(), Some((loaded.as_str(), kept.as_str()))))
            }
            (Some(_), None, _) => Some((kept.as_str(), None)),
        };
        if let Some((name, _)) = aside {
            taken.extend(self.at(name, uuids).map(|_| name));
            if taken.contains(&name) {
                return Err(format!("{} cannot be moved aside: {}.{name} exists", self.full_name(), self.db));
            }
            moves.push(one(&self.name, name));
        }
        moves.extend(from.map(|from| one(from, &self.name)));
        moves.extend(aside.and_then(|(_, last)| last).map(|(from, to)| one(from, to)));
        Ok(moves)
    }

    /// Returns true if a collection that is of neither side has the live name.
    pub(super) fn has_stranger(&self, uuids: &HexUuids) -> bool {
        let live = self.at(&self.name, uuids);
        live.is_some() && live != self.earlier.as_deref() && live != self.restored.as_deref()
    }

    /// Gives a name to the next collection of others.
    pub(super) fn name_stranger(&mut self, id: &str) {
        let name = kept(&format!("{id}.{}", self.strangers.len() + 1), &self.name);
        self.strangers.push(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "20261201T163949Z-abc123";

    fn collection(earlier: Option<&str>) -> MarkedCollection {
        MarkedCollection {
            db: "shop".into(),
            name: "orders".into(),
            earlier: earlier.map(Into::into),
            restored: Some("new".into()),
            expiries: Vec::new(),
            strangers: Vec::new(),
        }
    }

    fn uuids(at: &[(&str, &str)]) -> HexUuids {
        at.iter().map(|(name, uuid)| (("shop".to_string(), name.to_string()), uuid.to_string())).collect()
    }

    /// Carries out moves as a server does.
    fn carry_out(moves: &[Move], uuids: &mut HexUuids) {
        for one in moves {
            let uuid = uuids.remove(&(one.db.clone(), one.from.clone())).expect("it exists");
            assert_eq!(uuids.insert((one.db.clone(), one.to.clone()), uuid), None, "{} is in use", one.to);
        }
    }

    #[test]
    fn a_swap_and_its_undo_lose_nothing() {
        let one = collection(Some("old"));
        let mut at = uuids(&[("orders", "old"), (&loaded(ID, "orders"), "new")]);
        for (want, live) in
            [(SwapSide::Restored, "new"), (SwapSide::Earlier, "old"), (SwapSide::Restored, "new")]
        {
            carry_out(&one.moves(ID, want, &at).unwrap(), &mut at);
            assert_eq!(one.at("orders", &at), Some(live));
            assert!(one.moves(ID, want, &at).unwrap().is_empty());
            assert_eq!(one.aside(ID, want.other(), &at), Some(kept(ID, "orders")));
            assert_eq!(at.len(), 2);
        }
    }

    #[test]
    fn a_collection_that_is_gone_or_in_the_way_is_named() {
        let one = collection(Some("old"));
        let gone = one.moves(ID, SwapSide::Earlier, &uuids(&[("orders", "new")])).unwrap_err();
        assert!(gone.contains("shop.orders does not exist any more"), "{gone}");
        let full = uuids(&[("orders", "old"), (&loaded(ID, "orders"), "new"), (&kept(ID, "orders"), "x")]);
        let full = one.moves(ID, SwapSide::Restored, &full).unwrap_err();
        assert!(full.contains("cannot be moved aside") && full.contains(KEPT_PREFIX), "{full}");
    }

    #[test]
    fn names_of_strangers_are_new() {
        let mut one = collection(None);
        (0..2).for_each(|_| one.name_stranger(ID));
        assert_eq!(one.strangers, [1, 2].map(|n| format!("{KEPT_PREFIX}{ID}.{n}_orders")));
    }

    proptest! {
        /// After any interruption, and with a collection of another client under the live name, each side can be made live, and no
        /// collection is lost or overwritten.
        #[test]
        fn every_state_of_an_interruption_leads_to_both_sides(
            had in any::<bool>(), done in 0..4_usize, stranger in any::<bool>(), first in any::<bool>(), then in any::<bool>(),
        ) {
            let mut one = collection(had.then_some("old"));
            let mut at = uuids(&[(&loaded(ID, "orders"), "new")]);
            if had {
                at.extend(uuids(&[("orders", "old")]));
            }
            let side = |restored| if restored { SwapSide::Restored } else { SwapSide::Earlier };
            // Some of the moves of one or two exchanges were made.
            for want in [SwapSide::Restored, side(first)] {
                let moves = one.moves(ID, want, &at).unwrap();
                carry_out(&moves[..done.min(moves.len())], &mut at);
                if stranger && !at.contains_key(&("shop".into(), "orders".into())) {
                    at.extend(uuids(&[("orders", "stranger")]));
                }
                if one.has_stranger(&at) {
                    one.name_stranger(ID);
                    let moves = one.moves(ID, want, &at);
                    prop_assert!(moves.is_ok(), "{moves:?}");
                    carry_out(&moves.unwrap(), &mut at);
                }
            }
            let before = at.values().cloned().collect::<std::collections::BTreeSet<_>>();
            let moves = one.moves(ID, side(then), &at);
            prop_assert!(moves.is_ok(), "{moves:?} {at:?}");
            carry_out(&moves.unwrap(), &mut at);
            prop_assert_eq!(one.at("orders", &at), one.uuid(side(then)));
            prop_assert_eq!(at.values().cloned().collect::<std::collections::BTreeSet<_>>(), before);
        }
    }
}
