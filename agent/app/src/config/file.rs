//! Reading one TOML file into the raw configuration.

use super::{
    literal::Literal,
    origin::{ConfigError, Origin},
    raw::RawConfig,
};
use std::{fs::File, io::Read, ops::Range, path::Path};
use toml::{
    Spanned, Value,
    de::{DeString, DeTable, DeValue},
};

/// Largest accepted configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file into `raw`. Whether there was one.
///
/// # Errors
/// It cannot be read, is no TOML, or holds a key that is unknown or of another type.
pub(super) fn read_into(raw: &mut RawConfig, path: &Path) -> Result<bool, ConfigError> {
    match read_text(path) {
        Ok(Some(text)) => parse_into(raw, path, &text).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) => Err(ConfigError::new(path.display(), error)),
    }
}

fn read_text(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than the {FILE_BYTES_MAX} bytes accepted")));
    }
    Ok(Some(text))
}

fn parse_into(raw: &mut RawConfig, path: &Path, text: &str) -> Result<(), ConfigError> {
    let at = |span: Range<usize>| Origin::File { path: path.to_owned(), line: line_of(text, span.start) };
    let table =
        DeTable::parse(text).map_err(|e| ConfigError::new(at(e.span().unwrap_or(0..0)), e.message()))?;
    // In the file's order, so that the first error is the topmost one.
    let mut sections: Vec<_> = table.get_ref().iter().collect();
    sections.sort_by_key(|(name, _)| name.span().start);
    for (section, content) in sections {
        let name: &str = section.get_ref();
        let origin = at(section.span());
        if name == "model" {
            // One table for each model.
            for (model, content) in in_order(name, content, &origin)? {
                let name = format!("{}{}", RawConfig::MODEL, model.get_ref());
                read_keys(raw, &name, content, &at(model.span()), &at)?;
            }
            continue;
        }
        if !RawConfig::has_section(name) {
            return Err(RawConfig::unknown_section(name, &origin));
        }
        read_keys(raw, name, content, &origin, &at)?;
    }
    Ok(())
}

/// A place of the text, and what stands there.
type Entry<'a, 't> = (&'a Spanned<DeString<'t>>, &'a Spanned<DeValue<'t>>);

/// The keys of a section, topmost first.
fn in_order<'a, 't>(
    name: &str,
    content: &'a Spanned<DeValue<'t>>,
    origin: &Origin,
) -> Result<Vec<Entry<'a, 't>>, ConfigError> {
    let Some(keys) = content.get_ref().as_table() else {
        let found = content.get_ref().type_str();
        return Err(ConfigError::value(origin, name, found, format!("a section, [{name}]")));
    };
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    Ok(keys)
}

fn read_keys(
    raw: &mut RawConfig,
    name: &str,
    content: &Spanned<DeValue<'_>>,
    origin: &Origin,
    at: &impl Fn(Range<usize>) -> Origin,
) -> Result<(), ConfigError> {
    for (key, value) in in_order(name, content, origin)? {
        let origin = at(key.span());
        let value: Value = serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(value.clone()))
            .map_err(|e: toml::de::Error| {
                ConfigError::new(&origin, format!("{name}.{}: {}", key.get_ref(), e.message()))
            })?;
        raw.set(name, key.get_ref(), &Literal::typed(value), origin)?;
    }
    Ok(())
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|b| **b == b'\n').count() + 1
}
