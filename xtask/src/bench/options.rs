//! What `cargo xtask bench` is asked for.

use std::path::PathBuf;

/// The benchmarks; all of them where none is named.
const NAMES: [&str; 2] = ["cpu", "update"];

/// The arguments, read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) names: Vec<String>,
    pub(super) json: bool,
    pub(super) cpu: CpuOptions,
}

/// What is measured of inference, and how long.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CpuOptions {
    /// Parts of labels, as `resnet50` or `v2_int8`; empty: every network.
    pub(super) models: Vec<String>,
    pub(super) threads: Vec<u16>,
    pub(super) isas: Vec<String>,
    pub(super) rounds: usize,
    /// How long each engine runs in a round.
    pub(super) seconds: f64,
    /// Inputs on which outputs are compared.
    pub(super) inputs: usize,
    pub(super) write_docs: bool,
    /// The layers of ONNX Runtime instead of the comparison.
    pub(super) profile: bool,
    /// A built agent, instead of building one.
    pub(super) agent: Option<PathBuf>,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            threads: vec![1, 2],
            isas: vec!["avx2".into(), "native".into()],
            rounds: 7,
            seconds: 0.15,
            inputs: 200,
            write_docs: false,
            profile: false,
            agent: None,
        }
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// One of them is unknown, or not what it should be.
    pub(super) fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let cpu = &mut options.cpu;
            match arg {
                "--json" => options.json = true,
                "--quick" => (cpu.rounds, cpu.seconds, cpu.inputs) = (3, 0.05, 20),
                "--write-docs" => cpu.write_docs = true,
                "--profile" => cpu.profile = true,
                "--models" => cpu.models = list(value()?),
                "--isa" => cpu.isas = list(value()?),
                "--agent" => cpu.agent = Some(value()?.into()),
                "--rounds" => cpu.rounds = count(arg, value()?)?,
                "--threads" => {
                    cpu.threads = list(value()?).iter().map(|n| count(arg, n)).collect::<Result<_, _>>()?;
                }
                name if NAMES.contains(&name) => options.names.push(name.to_owned()),
                other => {
                    return Err(format!(
                        "{other:?} is no benchmark or option of it; there are {}",
                        NAMES.join(", ")
                    ));
                }
            }
        }
        match options.cpu.isas.iter().find(|isa| !["avx2", "native"].contains(&isa.as_str())) {
            Some(isa) => Err(format!("--isa {isa}: there are avx2 and native")),
            None => Ok(options),
        }
    }

    /// Whether this benchmark is to run.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn count<T: std::str::FromStr + PartialOrd + From<u8>>(option: &str, text: &str) -> Result<T, String> {
    text.parse().ok().filter(|n| *n >= T::from(1)).ok_or_else(|| format!("{option} {text}: not a count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_names_mix() {
        let options = parse("cpu --quick --models a,b --threads 1,4 --rounds 9 --json").expect("reads");
        assert!(options.wants("cpu") && !options.wants("update") && options.json);
        assert_eq!((options.cpu.rounds, options.cpu.threads), (9, vec![1, 4]));
        assert_eq!(options.cpu.models, ["a", "b"]);
        assert!(parse("").expect("reads").wants("update"));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named() {
        for (text, expected) in [
            ("gpu", "\"gpu\""),
            ("cpu --rounds 0", "--rounds 0"),
            ("cpu --threads 1,x", "--threads x"),
            ("cpu --models", "needs a value"),
            ("cpu --isa sse", "--isa sse"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
