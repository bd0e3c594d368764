//! Cuts the power at every moment of a scenario.

use crate::{
    device::{Stopped, simulate},
    disk::{Carelessness, Image},
    invariants,
    random::Random,
    scenario::{Play, Scenario},
};

/// How thoroughly a scenario is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Drawn survival images at each cut point, beside the four that are not drawn.
    pub mixtures: u64,
    /// Second cuts, during the recovery from a first one; drawn.
    pub second_cuts: u64,
    /// Ends early once a violation says this.
    pub until: Option<&'static str>,
}

/// What came of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Its name.
    pub name: &'static str,
    /// Moments at which the power was cut: before every operation, and after the last.
    pub cut_points: u64,
    /// Survival images at each.
    pub images: u64,
    /// Devices that were brought up again and observed to the end.
    pub runs: u64,
    /// What did not hold.
    pub violations: Vec<String>,
}

/// Cuts the power at every point of a scenario and brings the device up again from every survival image.
///
/// # Panics
/// When the scenario does not come to its end undisturbed: then it proves nothing.
#[must_use]
pub fn try_every_cut(scenario: &Scenario, effort: Effort, careless: Option<Carelessness>) -> Tried {
    let images = Image::all(0, effort.mixtures).count() as u64;
    let mut tried = Tried { name: scenario.name, images, ..Tried::default() };
    let begin = || {
        let mut play = Play::new(scenario);
        play.device.careless = careless;
        play
    };
    let first = begin().device.disk.operations();
    simulate(async {
        let mut play = begin();
        let undisturbed = play.go_on().await;
        assert_eq!(undisturbed, Ok(()), "{} undisturbed", scenario.name);
        let last = play.device.disk.operations();
        for operation in first..=last {
            let mut play = begin();
            play.device.disk.cut_before(Some(operation));
            cut_at(&mut tried, &mut play, operation - first, effort).await;
            if effort.until.is_some_and(|what| tried.violations.iter().any(|v| v.contains(what))) {
                return;
            }
        }
        for seed in 0..effort.second_cuts {
            let mut random = Random::new(seed);
            let mut play = begin();
            play.device.disk.cut_before(Some(first + random.below(last - first + 1)));
            cut_twice(&mut tried, &mut play, last - first, seed, &mut random).await;
        }
    });
    tried
}

/// Goes on until the cut, then from every image.
async fn cut_at(tried: &mut Tried, play: &mut Play<'_>, point: u64, effort: Effort) {
    tried.cut_points += 1;
    let stopped = play.go_on().await;
    if let Err(Stopped::Wrong(what)) = stopped {
        tried.violations.push(format!("{} before cut {point}: {what}", tried.name));
        return;
    }
    for image in Image::all(point, effort.mixtures) {
        let mut next = play.fork();
        next.device.disk = play.device.disk.survivor(image);
        let before = play.device.disk.cut_at().unwrap_or_else(|| "the end".into());
        let what = format!("cut {point}, before {before}, {image:?}");
        tried.start_read_only(&next, &what).await;
        tried.recover(&mut next, &what).await;
    }
}

/// Goes on until the cut, and until another one while the device recovers, then to the end.
async fn cut_twice(tried: &mut Tried, play: &mut Play<'_>, operations: u64, seed: u64, random: &mut Random) {
    let mut cuts = format!("second cut, seed {seed}");
    for _ in 0..2 {
        match play.go_on().await {
            Err(Stopped::Wrong(what)) => {
                tried.violations.push(format!("{} {cuts}: {what}", tried.name));
                return;
            }
            Ok(()) | Err(Stopped::PowerOff) => {}
        }
        let image = Image::Mixture(random.next());
        cuts += &format!(", at {} {image:?}", play.device.disk.operations());
        play.device.disk = play.device.disk.survivor(image);
        play.device.disk.cut_before(Some(random.below(operations)));
    }
    play.device.disk.cut_before(None);
    tried.recover(play, &cuts).await;
}

impl Tried {
    /// A disk that does not take a byte after the cut is no reason not to serve.
    async fn start_read_only(&mut self, play: &Play<'_>, what: &str) {
        if !play.device.said.enrolled {
            return;
        }
        let mut play = play.fork();
        play.device.disk.set_read_only();
        let broken = match play.device.start().await {
            Ok(process) => {
                let broken = invariants::after_start(&play.device, &process);
                process.kill().await;
                broken
            }
            Err(_) if play.device.said.active.is_none() => vec![],
            Err(stopped) => vec![format!("{stopped:?}")],
        };
        let violations = broken.into_iter().map(|b| format!("{} {what}, then read-only: {b}", self.name));
        self.violations.extend(violations);
    }

    async fn recover(&mut self, play: &mut Play<'_>, what: &str) {
        self.runs += 1;
        if let Err(stopped) = play.go_on().await {
            self.violations.push(format!("{} {what}: {stopped:?}", self.name));
        }
    }
}
