//! What Whimbrel says in TUF's free fields, below `custom.whimbrel` of the signed part.
//!
//! | role | field | meaning |
//! |---|---|---|
//! | targets | `floors: {MODEL: VERSION}` | the lowest version that may be installed |
//! | targets | `downgrades: {MODEL: {number, floor}}` | statement `number` lowers the floor to `floor` |
//! | timestamp | `signed_at: DATE` | when it was signed: no clock that is right shows less |

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use whimbrel_wire::ModelName;

/// Most models with a floor, and most with a downgrade statement.
const MODELS_MAX: usize = 10_000;
/// How far a clock may lie behind a signed time: between two machines that keep time, and for a step back.
const CLOCK_TOLERANCE: Duration = Duration::seconds(60);

/// The lowest version of each model that may be installed.
pub type Floors = BTreeMap<ModelName, Version>;

/// A release key's word that a model may go back below its floor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downgrade {
    /// Counts the statements about a model, from 1. A device heeds each once, so that an old one cannot be played again.
    pub number: u64,
    /// The floor from now on.
    pub floor: Version,
}

/// Statements by model.
pub type Downgrades = BTreeMap<ModelName, Downgrade>;

/// What a device remembers of floors, whatever becomes of the metadata that said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloorMarks {
    /// The floors in force.
    pub floors: Floors,
    /// The last statement heeded about each model.
    pub downgrades: BTreeMap<ModelName, u64>,
}

impl FloorMarks {
    /// Heeds what targets metadata says: a statement not yet heeded sets its floor; apart from that floors only rise.
    pub fn heed(&mut self, floors: &Floors, downgrades: &Downgrades) {
        for (model, statement) in downgrades {
            let heeded = self.downgrades.get(model).copied().unwrap_or_default();
            if statement.number > heeded {
                self.floors.insert(model.clone(), statement.floor.clone());
                self.downgrades.insert(model.clone(), statement.number);
            }
        }
        for (model, floor) in floors {
            match self.floors.get_mut(model) {
                Some(known) if *known >= *floor => {}
                Some(known) => *known = floor.clone(),
                None => {
                    self.floors.insert(model.clone(), floor.clone());
                }
            }
        }
    }
}

pub(super) fn floors(signed: &Value) -> Result<Floors, String> {
    read_models(signed, "floors")
}

pub(super) fn downgrades(signed: &Value) -> Result<Downgrades, String> {
    let downgrades: Downgrades = read_models(signed, "downgrades")?;
    match downgrades.values().any(|statement| statement.number == 0) {
        true => Err("downgrades: numbers begin at 1".into()),
        false => Ok(downgrades),
    }
}

/// When a timestamp was signed, where it says so.
pub(super) fn signed_at(signed: &Value) -> Result<Option<OffsetDateTime>, String> {
    let Some(value) = signed.pointer("/custom/whimbrel/signed_at") else { return Ok(None) };
    let text = value.as_str().ok_or("signed_at is no text")?;
    OffsetDateTime::parse(text, &Rfc3339).map(Some).map_err(|e| format!("signed_at: {e}"))
}

fn read_models<T: for<'a> Deserialize<'a>>(
    signed: &Value,
    field: &str,
) -> Result<BTreeMap<ModelName, T>, String> {
    let Some(value) = signed.pointer(&format!("/custom/whimbrel/{field}")) else {
        return Ok(BTreeMap::new());
    };
    let models = BTreeMap::deserialize(value).map_err(|e| format!("{field}: {e}"))?;
    if models.len() > MODELS_MAX {
        return Err(format!("{field}: {} models, at most {MODELS_MAX} are accepted", models.len()));
    }
    Ok(models)
}

/// The time to check dates against: the device's clock, unless it lies behind what is signed. A clock that was never set
/// (1970) would pass expired metadata; with this it can pass none that had expired when the newest timestamp was signed.
/// Nothing here follows the device's own clock, so one that was once far ahead leaves no trace.
#[must_use]
pub fn plausible_time(clock: OffsetDateTime, signed_at: Option<OffsetDateTime>) -> OffsetDateTime {
    match signed_at {
        Some(signed_at) if clock < signed_at.saturating_sub(CLOCK_TOLERANCE) => signed_at,
        _ => clock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn floors(version: &str) -> Floors {
        [("m".parse().expect("a name"), version.parse().expect("a version"))].into()
    }

    fn downgrade(number: u64, floor: &str) -> Downgrades {
        let floor = floor.parse().expect("a version");
        [("m".parse().expect("a name"), Downgrade { number, floor })].into()
    }

    #[test]
    fn floors_rise_and_fall_by_a_statement_only_and_once() {
        let mut marks = FloorMarks::default();
        let none = Downgrades::new();
        marks.heed(&floors("1.2.0"), &none);
        marks.heed(&floors("1.0.0"), &none);
        assert_eq!(marks.floors, floors("1.2.0"));
        marks.heed(&floors("1.1.0"), &downgrade(1, "1.1.0"));
        assert_eq!(marks.floors, floors("1.1.0"));
        marks.heed(&floors("1.3.0"), &downgrade(1, "1.1.0"));
        assert_eq!(marks.floors, floors("1.3.0"), "it rises again above a statement that was heeded");
        marks.heed(&Floors::new(), &downgrade(1, "1.0.0"));
        assert_eq!(marks.floors, floors("1.3.0"), "a number is heeded once");
        marks.heed(&Floors::new(), &downgrade(3, "1.0.0"));
        assert_eq!(marks.floors, floors("1.0.0"));
        assert_eq!(marks.downgrades.values().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_clock_behind_what_is_signed_is_not_believed() {
        let signed = datetime!(2030-01-01 00:00 UTC);
        let plausible = |clock| plausible_time(clock, Some(signed));
        assert_eq!(plausible(datetime!(1970-01-01 00:00 UTC)), signed);
        assert_eq!(plausible(datetime!(2029-12-31 23:59:30 UTC)), datetime!(2029-12-31 23:59:30 UTC));
        assert_eq!(plausible(datetime!(2100-01-01 00:00 UTC)), datetime!(2100-01-01 00:00 UTC));
        let unset = datetime!(1970-01-01 00:00 UTC);
        assert_eq!(plausible_time(unset, None), unset);
    }
}
