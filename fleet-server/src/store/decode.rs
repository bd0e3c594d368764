//! Between columns and types. A row that this build wrote always reads back; anything else is reported as damage.

use super::StoreError;
use crate::bus::Address;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, str::FromStr};
use whimbrel_wire::Digest;

/// Reads a text column.
pub(super) fn parse<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|e: T::Err| damaged(what, e))
}

/// Reads a column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| damaged(what, e))
}

/// Writes a column that holds JSON.
pub(super) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| damaged(what, e))
}

/// Reads a column that holds a digest.
pub(super) fn digest(what: &'static str, bytes: &[u8]) -> Result<Digest, StoreError> {
    bytes
        .try_into()
        .map(Digest::new)
        .map_err(|_| damaged(what, format!("{} bytes, expected 32", bytes.len())))
}

/// Reads a number that is never negative.
pub(super) fn count<T: TryFrom<i64>>(what: &'static str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| damaged(what, format!("{value} is out of range")))
}

/// Reads the two columns that name a device.
pub(super) fn address(tenant: &str, device: &str) -> Result<Address, StoreError> {
    Ok(Address { tenant: parse("tenant", tenant)?, device: parse("device", device)? })
}

/// A number as a column holds it, cut at the largest that fits.
pub(super) fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn damaged(what: &'static str, reason: impl Display) -> StoreError {
    StoreError::Damaged { what, reason: reason.to_string() }
}
