//! `kill -9` of a real agent at random moments, while its fleet has it go from version to version, and what must hold then.

use crate::{Fleet, Operator, Process, binary, examples, pixels};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use whimbrel_updater::{
    journal::{Outcome, Record, Stage},
    slots::InstalledBundle,
    tuf::Trust,
};

/// Versions that the fleet asks for in turn. Those with an odd number take no crash, so that a kill during their probation
/// makes the next start take them back.
const VERSIONS: u32 = 6;
/// Longest life of a process, drawn anew each time: some end while they start, some in the middle of an update.
const LIVES_MS: [u64; 4] = [30, 120, 400, 1200];
const DEVICE: &str = "cam-1";
/// Size of a file beside the model that takes part in no inference.
const NOISE_BYTES: u64 = 3 << 20;

/// What a series of kills came to.
#[derive(Debug, Default)]
pub struct Kills {
    /// Processes killed.
    pub kills: u32,
    /// How many of them had been answering.
    pub while_serving: u32,
    /// Where updates stood at the kill, by the name of the stage.
    pub stages: BTreeMap<&'static str, u32>,
    /// Updates that came to an end, by what became of them.
    pub outcomes: BTreeMap<&'static str, u32>,
    /// What did not hold, in words.
    pub violations: Vec<String>,
}

impl Kills {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "kills": self.kills, "while_serving": self.while_serving, "stages": self.stages,
            "outcomes": self.outcomes, "violations": self.violations,
        })
    }
}

/// A device under attack.
struct Victim {
    dir: PathBuf,
    fleet: Fleet,
    operator: Operator,
    random: Random,
    /// The version asked for last.
    asked: u32,
    /// The end of an update that was counted last.
    counted: Option<(String, u32)>,
    /// Highest versions seen of root, timestamp, snapshot and targets.
    trusted: [u64; 4],
    result: Kills,
}

/// Kills a device's agent `kills` times.
///
/// # Panics
/// When the fleet server or the operator's commands fail.
#[must_use]
pub fn kill_again_and_again(dir: &Path, kills: u32, seed: u64) -> Kills {
    let fleet = Fleet::start(dir);
    let operator = Operator::new(dir, &fleet);
    for number in 1..=VERSIONS {
        let archive = operator.pack(&version(dir, number), &format!("v{number}.wbundle"));
        operator.publish(&archive);
    }
    let state = dir.join(DEVICE);
    let enroll = ["enroll", "--server", &fleet.https, "--token", &operator.token(), "--device", DEVICE];
    let enroll = enroll.iter().map(PathBuf::from).chain(["--state-dir".into(), state]);
    drop(crate::run(&binary("whimbrel-agent"), enroll).ok());
    let random = Random(seed.max(1));
    let mut victim = Victim {
        dir: dir.to_owned(),
        fleet,
        operator,
        random,
        asked: 0,
        counted: None,
        trusted: [0; 4],
        result: Kills::default(),
    };
    victim.ask_for_next();
    while victim.result.kills < kills {
        victim.live_and_die();
    }
    assert!(victim.fleet.process.is_running(), "the fleet server ended");
    victim.result
}

/// A folder with version `number`: the first or the second network, under another number and with short gates.
fn version(dir: &Path, number: u32) -> PathBuf {
    let source = examples().join(if number.is_multiple_of(2) { "digits/v2" } else { "digits/v1" });
    let folder = dir.join(format!("version-{number}"));
    fs::create_dir_all(&folder).expect("the folder can be made");
    for file in ["golden.npz", "model.onnx"] {
        fs::copy(source.join(file), folder.join(file)).expect("copied");
    }
    let text = fs::read_to_string(source.join("bundle.toml")).expect("readable");
    let text: String = text
        .lines()
        .map(|line| {
            if line.starts_with("version = ") {
                format!("version = \"{number}.0.0\"")
            } else {
                line.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join("\n");
    let (before, after) = text.split_once("[probation]").expect("it has gates");
    let rest = after.split_once("\n[").map_or(String::new(), |(_, rest)| format!("\n[{rest}"));
    let crashes = if number.is_multiple_of(2) { 1000 } else { 0 };
    let gates = format!(
        "[probation]\nrequests = 20\nseconds = 30\nrequests_min = 5\nerror_rate_max = 0.5\ncrashes_max = {crashes}\n"
    );
    fs::write(folder.join("bundle.toml"), format!("{before}{gates}{rest}")).expect("written");
    // So that there is something to be fetched for a while: bytes that no other version has.
    let mut random = Random(u64::from(number));
    let noise: Vec<u8> = (0..NOISE_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    fs::write(folder.join("noise.bin"), noise).expect("written");
    folder
}

impl Victim {
    fn ask_for_next(&mut self) {
        self.asked = self.asked % VERSIONS + 1;
        let version = format!("{}.0.0", self.asked);
        drop(self.operator.json(&["rollout", "start", "digits", &version, "--stages", "100"]));
    }

    /// One life of the agent: it starts, answers for a while, and is killed.
    fn live_and_die(&mut self) {
        let longest = LIVES_MS[self.random.below(LIVES_MS.len() as u64) as usize];
        let life = Duration::from_millis(self.random.below(longest));
        let before = self.journal();
        let begun = Instant::now();
        let mut process = self.start();
        let http = process.ready_within(life);
        if let Some(http) = &http {
            self.check_answer(http, before.as_ref());
            let mut turn = 0;
            while begun.elapsed() < life {
                ask(http, turn);
                turn += 1;
            }
            self.result.while_serving += 1;
        }
        process.kill();
        self.result.kills += 1;
        self.look(before.as_ref());
    }

    fn start(&self) -> Process {
        let mut command = Command::new(binary("whimbrel-agent"));
        command.arg("serve").arg("--state-dir").arg(self.state()).args(["--http", "127.0.0.1:0"]);
        command.arg("--uds").arg(self.dir.join("kills.sock"));
        Process::start(&mut command, self.dir.join("kills.log"))
    }

    fn state(&self) -> PathBuf {
        self.dir.join(DEVICE)
    }

    /// What serves after a start is the confirmed version, or the one in probation.
    fn check_answer(&mut self, http: &str, before: Option<&Record>) {
        let Some(active) = before.and_then(|r| r.active.as_ref()) else { return };
        let expected = [Some(active.version.to_string()), candidate(before).map(|(version, _)| version)];
        match ask(http, 0) {
            Some(answer) if expected.contains(&Some(answer.clone())) => {}
            other => {
                self.violation(format!("{other:?} answered after a start, expected one of {expected:?}"))
            }
        }
    }

    /// Looks at what the dead process left on disk.
    fn look(&mut self, before: Option<&Record>) {
        let now = self.journal();
        let had_active = before.is_some_and(|r| r.active.is_some());
        let active = now.as_ref().and_then(|r| r.active.clone());
        if had_active && active.is_none() {
            self.violation("the confirmed version is gone".into());
        }
        if let Some(active) = active {
            let slot = self.state().join("models/digits").join(active.bundle.to_string());
            if let Err(e) = InstalledBundle::open(&slot) {
                self.violation(format!("the confirmed version is not whole: {e}"));
            }
        }
        self.look_at_trust();
        *self.result.stages.entry(self.stage(now.as_ref())).or_default() += 1;
        self.count_outcome(now.as_ref());
    }

    fn look_at_trust(&mut self) {
        let trust = match Trust::open(&self.state().join("trust")) {
            Ok(trust) => trust,
            Err(e) => return self.violation(format!("trust cannot be opened: {e}")),
        };
        let trusted = trust.trusted();
        let now = [
            trusted.root().body().version,
            trusted.timestamp().map_or(0, |t| t.body().version),
            trusted.snapshot().map_or(0, |s| s.body().version),
            trusted.targets().map_or(0, |t| t.body().version),
        ];
        if now.iter().zip(&self.trusted).any(|(now, before)| now < before) {
            let before = self.trusted;
            self.violation(format!("trust went back from {before:?} to {now:?}"));
        }
        self.trusted = now;
    }

    fn stage(&self, record: Option<&Record>) -> &'static str {
        match record.and_then(|r| r.update.as_ref()).map(|u| &u.stage) {
            Some(Stage::Testing { .. }) => "self-test",
            Some(Stage::Probation { .. }) => "probation",
            _ if self.is_fetching() => "fetching",
            _ => "between updates",
        }
    }

    /// Whether a folder of a bundle that is being put together is there.
    fn is_fetching(&self) -> bool {
        let models = fs::read_dir(self.state().join("models/digits"));
        let hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
        models.is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(hidden)))
    }

    /// When the update asked for has come to an end, asks for the next.
    fn count_outcome(&mut self, record: Option<&Record>) {
        let Some(update) = record.and_then(|r| r.update.as_ref()) else { return };
        let Stage::Done { outcome } = &update.stage else { return };
        let end = (update.offer.version.to_string(), update.offer.attempt);
        if end.0 != format!("{}.0.0", self.asked) || self.counted.as_ref() == Some(&end) {
            return;
        }
        let name = match outcome {
            Outcome::Active {} => "confirmed",
            Outcome::Rejected { .. } => "rejected",
            Outcome::RolledBack { .. } => "rolled back",
        };
        *self.result.outcomes.entry(name).or_default() += 1;
        self.counted = Some(end);
        self.ask_for_next();
    }

    fn journal(&mut self) -> Option<Record> {
        let bytes = fs::read(self.state().join("journal/digits.journal")).ok()?;
        match Record::from_file(&bytes) {
            Ok(record) => Some(record),
            Err(e) => {
                self.violation(format!("the journal is not whole: {e}"));
                None
            }
        }
    }

    fn violation(&mut self, what: String) {
        let number = self.result.kills;
        self.result.violations.push(format!("at kill {number}: {what}"));
    }
}

/// The version in probation, and how often it crashed.
fn candidate(record: Option<&Record>) -> Option<(String, u32)> {
    let update = record?.update.as_ref()?;
    match &update.stage {
        Stage::Probation { crashes, .. } => Some((update.offer.version.to_string(), *crashes)),
        _ => None,
    }
}

/// Asks for one digit; the version that answered.
fn ask(http: &str, turn: usize) -> Option<String> {
    let input =
        json!({"name": "pixels", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": pixels(turn % 50)});
    let answer =
        crate::post(http, "/v2/models/digits/infer", "", json!({"inputs": [input]}).to_string().as_bytes())?;
    (answer.status == 200).then(|| answer.json()["model_version"].as_str().map(ToOwned::to_owned)).flatten()
}

/// xorshift64: the moments are the same for the same seed, though what they hit is not.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
