//! The exchange in an order of events and at times that each test chooses.

use super::*;
use bytes::Bytes;
use whimbrel_wire::{Digest, transfer::Want};

const S: Duration = Duration::from_secs(1);
const NONE: [u64; 0] = [];

fn chunk(n: u8) -> Item {
    Item::Chunk { stored: Digest::new([n; 32]) }
}

fn target() -> Item {
    Item::Target { file: "m/x.1.0.0.wbi".into() }
}

fn bytes(id: u64, offset: u64, total_bytes: u64, bytes: &'static [u8]) -> Part {
    Part { id, content: Content::Bytes { offset, total_bytes, bytes: Bytes::from_static(bytes) } }
}

/// A connected exchange whose ids begin at 100 and whose delays are the longest.
fn connected() -> (Exchange, Instant) {
    let now = Instant::now();
    let mut exchange = Exchange::new(100, || 1.0, now);
    assert!(exchange.connected(now).is_empty());
    (exchange, now)
}

fn begin(exchange: &mut Exchange, item: Item, now: Instant) -> u64 {
    exchange.begin(item, 1000, now).expect("a good name")
}

fn wants(exchange: &mut Exchange, now: Instant) -> Vec<Want> {
    exchange.take_due(now).map_or_else(Vec::new, |get| get.wants)
}

fn ids(exchange: &mut Exchange, now: Instant) -> Vec<u64> {
    wants(exchange, now).into_iter().map(|want| want.id).collect()
}

/// The one request that ended, and how.
fn only(ended: Ended) -> (u64, Outcome) {
    let [one]: [(u64, Outcome); 1] = ended.try_into().expect("one ended");
    one
}

fn why(outcome: Outcome) -> String {
    outcome.expect_err("failed").to_string()
}

#[test]
fn no_more_is_outstanding_than_the_window_which_grows_with_answers() {
    let (mut exchange, now) = connected();
    let all: Vec<u64> = (0..40).map(|n| begin(&mut exchange, chunk(n), now)).collect();
    assert_eq!(ids(&mut exchange, now), all[..4]);
    assert_eq!(ids(&mut exchange, now), NONE, "until an answer comes");
    for id in &all[..4] {
        let (ended, outcome) = only(exchange.answer(bytes(*id, 0, 2, b"ab"), now));
        assert_eq!((ended, outcome.expect("came")), (*id, Bytes::from_static(b"ab")));
    }
    assert_eq!(
        ids(&mut exchange, now),
        all[4..4 + WINDOW_ITEMS],
        "four more than at first, and no more than the most"
    );
    exchange.cancel(all[4]);
    assert_eq!(ids(&mut exchange, now), [all[12]], "one that is given up makes room");
}

#[test]
fn a_file_comes_in_parts_and_goes_on_where_it_was_when_the_connection_broke() {
    let (mut exchange, now) = connected();
    let id = begin(&mut exchange, target(), now);
    assert_eq!(wants(&mut exchange, now), [Want { id, item: target(), offset: 0, size_bytes_max: 1000 }]);
    assert!(exchange.answer(bytes(id, 0, 6, b"abc"), now).is_empty());
    assert_eq!(wants(&mut exchange, now)[0].offset, 3);
    assert!(exchange.disconnected(now).is_empty());
    assert_eq!(ids(&mut exchange, now), NONE, "nothing is sent into nothing");
    assert!(exchange.connected(now + S).is_empty());
    assert_eq!(wants(&mut exchange, now + S)[0].offset, 3);
    assert!(exchange.answer(bytes(id, 0, 6, b"abc"), now + S).is_empty(), "it has that part");
    let (_, outcome) = only(exchange.answer(bytes(id, 3, 6, b"def"), now + S));
    assert_eq!(outcome.expect("whole"), Bytes::from_static(b"abcdef"));
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let (mut exchange, now) = connected();
    let id = begin(&mut exchange, chunk(1), now);
    assert_eq!(ids(&mut exchange, now), [id]);
    for other in [id - 1, id + 1, 0, u64::MAX] {
        assert!(exchange.answer(bytes(other, 0, 1, b"x"), now).is_empty());
    }
    assert_eq!(only(exchange.answer(bytes(id, 0, 1, b"x"), now)).0, id);
    assert!(exchange.answer(bytes(id, 0, 1, b"x"), now).is_empty(), "the same once more");
    let given_up = begin(&mut exchange, chunk(2), now);
    assert_eq!(ids(&mut exchange, now), [given_up]);
    exchange.cancel(given_up);
    assert!(exchange.answer(bytes(given_up, 0, 1, b"x"), now).is_empty());
    assert_eq!(exchange.deadline(now), None, "nothing is waited for");
}

#[test]
fn silence_has_it_asked_for_again_more_and_more_slowly_and_then_given_up() {
    let (mut exchange, mut now) = connected();
    let id = begin(&mut exchange, chunk(1), now);
    for delay in [S / 2, S] {
        assert_eq!(ids(&mut exchange, now), [id]);
        let late = exchange.deadline(now).expect("waits");
        assert_eq!(late, now + SILENCE);
        assert!(exchange.tick(late - S).is_empty());
        assert_eq!(ids(&mut exchange, late - S), NONE);
        assert!(exchange.tick(late).is_empty());
        assert_eq!(exchange.deadline(late), Some(late + delay), "a pause before the next try");
        now = late + delay;
    }
    assert_eq!(ids(&mut exchange, now), [id]);
    let (ended, outcome) = only(exchange.tick(now + SILENCE));
    assert_eq!(ended, id);
    assert!(outcome.as_ref().is_err_and(TransportError::is_temporary));
    assert!(why(outcome).contains("no answer in time"));
}

#[test]
fn a_late_answer_to_the_first_try_still_counts() {
    let (mut exchange, now) = connected();
    let id = begin(&mut exchange, chunk(1), now);
    assert_eq!(ids(&mut exchange, now), [id]);
    assert!(exchange.tick(now + SILENCE).is_empty());
    let (ended, outcome) = only(exchange.answer(bytes(id, 0, 1, b"x"), now + SILENCE));
    assert_eq!((ended, outcome.is_ok()), (id, true));
}

#[test]
fn answers_to_others_show_that_the_connection_lives_but_not_for_ever() {
    let (mut exchange, start) = connected();
    let lost = begin(&mut exchange, chunk(0), start);
    assert_eq!(ids(&mut exchange, start), [lost]);
    let mut now = start;
    while now + SILENCE / 2 < start + PIECE {
        now += SILENCE / 2;
        let id = begin(&mut exchange, chunk(1), now);
        assert_eq!(ids(&mut exchange, now), [id], "after {:?}", now - start);
        assert_eq!(only(exchange.answer(bytes(id, 0, 1, b"x"), now)).0, id);
        assert!(exchange.tick(now).is_empty());
    }
    assert!(exchange.tick(start + PIECE).is_empty());
    assert_eq!(ids(&mut exchange, start + PIECE + S), [lost]);
}

#[test]
fn after_silence_less_is_outstanding() {
    let (mut exchange, now) = connected();
    let all: Vec<u64> = (0..8).map(|n| begin(&mut exchange, chunk(n), now)).collect();
    assert_eq!(ids(&mut exchange, now), all[..4]);
    let late = now + SILENCE;
    assert!(exchange.tick(late).is_empty());
    assert_eq!(ids(&mut exchange, late), all[4..6], "half of the window, while the others pause");
}

#[test]
fn large_pieces_are_waited_for_longer() {
    let (mut exchange, now) = connected();
    exchange.begin(target(), u64::MAX, now).expect("begun");
    assert_eq!(wants(&mut exchange, now)[0].size_bytes_max, 16 << 20, "no more than the protocol moves");
    assert_eq!(exchange.deadline(now), Some(now + SILENCE + 16 * S));
}

#[test]
fn without_a_connection_requests_end_soon_and_at_once_when_it_is_long_gone() {
    let now = Instant::now();
    let mut exchange = Exchange::new(0, || 1.0, now);
    let id = begin(&mut exchange, chunk(1), now);
    assert_eq!(exchange.deadline(now), Some(now + GONE));
    assert!(exchange.tick(now + GONE - S).is_empty());
    let (ended, outcome) = only(exchange.tick(now + GONE));
    assert_eq!(ended, id);
    assert!(why(outcome).contains("not connected"));
    begin(&mut exchange, chunk(2), now + GONE + S);
    assert_eq!(exchange.deadline(now + GONE + S), Some(now + GONE + S), "at once");
    assert_eq!(exchange.tick(now + GONE + S).len(), 1);
}

#[test]
fn a_request_that_breaks_every_connection_is_given_up() {
    let (mut exchange, now) = connected();
    let id = begin(&mut exchange, chunk(1), now);
    for _ in 1..3 {
        assert_eq!(ids(&mut exchange, now), [id]);
        assert!(exchange.disconnected(now).is_empty());
        assert!(exchange.disconnected(now).is_empty(), "heard twice, counted once");
        assert!(exchange.connected(now).is_empty());
    }
    assert_eq!(ids(&mut exchange, now), [id]);
    assert!(why(only(exchange.disconnected(now)).1).contains("the connection broke"));
}

#[test]
fn refusals_end_a_request_and_a_busy_server_is_left_alone_for_a_while() {
    let (mut exchange, now) = connected();
    let [a, b, c] = [1, 2, 3].map(|n| begin(&mut exchange, chunk(n), now));
    assert_eq!(ids(&mut exchange, now), [a, b, c]);
    let part = |id, content| Part { id, content };
    let (_, outcome) = only(exchange.answer(part(a, Content::NotFound {}), now));
    assert!(matches!(outcome, Err(TransportError::NotFound { .. })));
    let (_, outcome) = only(exchange.answer(part(b, Content::TooLarge { total_bytes: 1001 }), now));
    assert!(matches!(outcome, Err(TransportError::TooLarge { size_bytes_max: 1000, .. })));
    for (seconds, pause) in [(7, 7), (u32::MAX, 60)] {
        assert!(exchange.answer(part(c, Content::Busy { retry_after_s: seconds }), now).is_empty());
        assert_eq!(exchange.deadline(now), Some(now + S * pause));
        assert_eq!(ids(&mut exchange, now + S * (pause - 1)), NONE);
        assert_eq!(ids(&mut exchange, now + S * pause), [c]);
    }
    let (_, outcome) = only(exchange.answer(part(c, Content::Busy { retry_after_s: 9 }), now));
    assert!(
        matches!(outcome, Err(TransportError::Unavailable { retry_after: Some(after), .. }) if after == 9 * S)
    );
}

#[test]
fn a_server_that_sends_other_than_it_was_asked_for_is_caught() {
    let (mut exchange, now) = connected();
    let [long, part, changes] = [chunk(1), chunk(2), target()].map(|item| begin(&mut exchange, item, now));
    assert_eq!(ids(&mut exchange, now), [long, part, changes]);
    let (_, outcome) = only(exchange.answer(bytes(long, 0, 1001, b"x"), now));
    assert!(matches!(outcome, Err(TransportError::TooLarge { .. })), "longer than accepted");
    assert!(why(only(exchange.answer(bytes(part, 0, 3, b"x"), now)).1).contains("in pieces"));
    // A file that changes under way is begun anew, and not for ever.
    for total in [10, 11] {
        assert!(exchange.answer(bytes(changes, 0, total, b"x"), now).is_empty());
        assert_eq!(wants(&mut exchange, now)[0].offset, 1);
        assert!(exchange.answer(bytes(changes, 1, total + 1, b"y"), now).is_empty());
        assert_eq!(wants(&mut exchange, now)[0].offset, 0);
    }
    assert!(exchange.answer(bytes(changes, 0, 12, b"x"), now).is_empty());
    assert!(why(only(exchange.answer(bytes(changes, 1, 13, b"y"), now)).1).contains("it changed"));
}

#[test]
fn a_server_that_drips_is_given_up() {
    let (mut exchange, start) = connected();
    let id = begin(&mut exchange, target(), start);
    let mut now = start;
    let failed = (0..).find_map(|offset| {
        assert_eq!(ids(&mut exchange, now), [id]);
        now += SILENCE - S;
        exchange.tick(now).pop().or_else(|| exchange.answer(bytes(id, offset, 1000, b"x"), now).pop())
    });
    let (_, outcome) = failed.expect("ends");
    assert!(why(outcome).contains("too slow"));
    assert!(now - start < 320 * S, "{:?}", now - start);
}

#[test]
fn names_that_no_message_could_carry_are_refused_at_once() {
    let (mut exchange, now) = connected();
    for file in [String::new(), "a\0b".into(), "x".repeat(513)] {
        let refused = exchange.begin(Item::Metadata { file }, 10, now);
        assert!(matches!(refused, Err(TransportError::Refused { .. })));
    }
    assert_eq!(exchange.take_due(now), None);
}

/// Numbers that follow from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The file of a request: its bytes tell their places.
fn file(id: u64) -> Bytes {
    (0..200 + id % 50).map(|at| (at + id) as u8).collect()
}

/// What a server that sends at most 64 bytes at a time answers.
fn answered(want: &Want) -> Part {
    let whole = file(want.id);
    let from = usize::try_from(want.offset).expect("small");
    // A chunk is sent whole.
    let len = if matches!(want.item, Item::Chunk { .. }) { whole.len() } else { 64 };
    let bytes = whole.slice(from..whole.len().min(from + len));
    let total_bytes = whole.len() as u64;
    Part { id: want.id, content: Content::Bytes { offset: want.offset, total_bytes, bytes } }
}

/// A network that loses, repeats, delays and breaks, for as long as requests are there; how many came.
fn ride(seed: u64) -> usize {
    let (mut chance, (mut exchange, start)) = (Chance(seed), connected());
    let (mut now, mut on_the_way) = (start, Vec::new());
    let ids: Vec<u64> = (0..30)
        .map(|n| {
            let item = if n % 3 == 0 { target() } else { chunk(n) };
            begin(&mut exchange, item, now)
        })
        .collect();
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < ids.len() {
        assert!(now - start < 10_000 * S, "seed {seed}: {} of {} ended", outcomes.len(), ids.len());
        for want in wants(&mut exchange, now) {
            for _ in 0..[0, 1, 1, 1, 2][usize::try_from(chance.below(5)).expect("small")] {
                on_the_way.push(answered(&want));
            }
        }
        let (items, bytes) = exchange.outstanding();
        assert!(
            items <= WINDOW_ITEMS && bytes <= OUTSTANDING_BYTES_MAX,
            "seed {seed}: {items} items, {bytes} bytes"
        );
        let ended = match chance.below(100) {
            0 => exchange.disconnected(now),
            1..5 if exchange.connection != Connection::Up => exchange.connected(now),
            5..95 if !on_the_way.is_empty() => {
                let next = chance.below(on_the_way.len() as u64);
                exchange.answer(on_the_way.swap_remove(usize::try_from(next).expect("small")), now)
            }
            95..98 => {
                now += S;
                exchange.tick(now)
            }
            _ => {
                now = exchange.deadline(now).map_or(now, |at| at.max(now));
                exchange.tick(now)
            }
        };
        for (id, outcome) in ended {
            assert!(outcomes.insert(id, outcome).is_none(), "seed {seed}: {id} ended twice");
        }
    }
    assert!(exchange.requests.is_empty());
    let came = outcomes.into_iter().filter_map(|(id, outcome)| match outcome {
        Ok(bytes) => Some((id, bytes)),
        Err(error) => {
            assert!(error.is_temporary(), "seed {seed}: {error}");
            None
        }
    });
    came.inspect(|(id, bytes)| assert_eq!(*bytes, file(*id), "seed {seed}")).count()
}

#[test]
fn over_a_network_that_loses_repeats_delays_and_breaks_every_request_ends_and_what_comes_is_whole() {
    let came: usize = (1..=300).map(ride).sum();
    assert!(came > 300 * 15, "{came} of {}", 300 * 30);
}
