//! Random lives. A failing one says its seed; `SIM_SEED=n` lives that one again, `SIM_LIVES=n` more of them.

use std::env;
use whimbrel_sim::walk::{Life, live};

const LIVES: u64 = 60;
const EVENTS: u64 = 80;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

fn lived(seed: u64) -> Life {
    let life = live(seed, EVENTS);
    let broken = life.violation.as_deref().unwrap_or_default();
    assert!(broken.is_empty(), "SIM_SEED={seed}: {broken}\n{}", life.events.join("\n"));
    life
}

#[test]
fn whatever_happens_the_device_serves_and_comes_to_the_newest_version() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{:#?}", lived(seed));
        return;
    }
    let lives: Vec<Life> = (0..number("SIM_LIVES").unwrap_or(LIVES)).map(lived).collect();
    let (confirmed, cuts) =
        (lives.iter().map(|l| l.confirmed).sum::<u64>(), lives.iter().map(|l| l.cuts).sum::<u64>());
    println!("{} lives, {confirmed} versions confirmed, {cuts} power cuts", lives.len());
    assert!(confirmed > lives.len() as u64 && cuts > lives.len() as u64, "too little happens");
}

#[test]
fn a_seed_gives_the_same_life_again() {
    let (one, other) = (live(7, EVENTS), live(7, EVENTS));
    assert_eq!(one.events, other.events);
}
