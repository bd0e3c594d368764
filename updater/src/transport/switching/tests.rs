//! Two servers in memory with the same files, in paused time.

use super::*;
use crate::testing::{Repo, Server};
use tokio::time::{advance, sleep};

/// Two servers with the same metadata, and the transport over both.
fn two() -> (Server, Server, Switching<Server, Server>) {
    let (first, second) = (Repo::new().server, Repo::new().server);
    let switching = Switching::new(first.clone(), second.clone());
    (first, second, switching)
}

fn requests(server: &Server) -> usize {
    server.lock().log.len()
}

async fn fetch(switching: &Switching<Server, Server>) {
    let bytes = switching.metadata("1.root.json", 1 << 20).await.expect("over one of them");
    assert!(bytes.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_first_is_used_while_it_works() {
    let (first, second, switching) = two();
    fetch(&switching).await;
    assert_eq!(switching.metadata("9.root.json", 1 << 20).await.expect("answered"), None);
    assert_eq!((requests(&first), requests(&second)), (2, 0), "a file that is absent is no failure");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_goes_over_the_other_at_once_and_later_ones_straight_away() {
    let (first, second, switching) = two();
    first.lock().offline = true;
    let begun = Instant::now();
    for _ in 0..3 {
        fetch(&switching).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((requests(&first), requests(&second)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn the_first_is_looked_at_from_time_to_time_and_used_again_once_it_works() {
    let (first, second, switching) = two();
    first.lock().offline = true;
    fetch(&switching).await;
    for looks in 1..4 {
        advance(PROBE.max).await;
        fetch(&switching).await;
        // Lets the look, which nobody waits for, run.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(requests(&first), 1 + looks);
        fetch(&switching).await;
        assert_eq!(requests(&first), 1 + looks, "not before it is due again");
    }
    first.lock().offline = false;
    advance(PROBE.max).await;
    fetch(&switching).await;
    sleep(Duration::from_millis(1)).await;
    let before = requests(&second);
    fetch(&switching).await;
    assert_eq!(requests(&second), before);
    assert_eq!(requests(&first), 6);
}

/// How often the first failed since it last brought something.
fn failures(switching: &Switching<Server, Server>) -> u32 {
    match *lock(&switching.way) {
        Way::First { failures } | Way::Second { failures, .. } => failures,
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_works_only_when_it_is_looked_at_is_looked_at_less_and_less() {
    let (first, _, switching) = two();
    let mut last = 0;
    for _ in 0..4 {
        first.lock().offline = true;
        fetch(&switching).await;
        assert!(failures(&switching) > last, "a look is no success");
        last = failures(&switching);
        first.lock().offline = false;
        advance(PROBE.max).await;
        fetch(&switching).await;
        sleep(Duration::from_millis(1)).await;
        assert!(matches!(*lock(&switching.way), Way::First { .. }));
    }
    fetch(&switching).await;
    assert_eq!(failures(&switching), 0, "it brought something");
}

#[tokio::test(start_paused = true)]
async fn where_the_second_fails_too_the_first_is_asked_and_both_reasons_are_told() {
    let (first, second, switching) = two();
    first.lock().offline = true;
    fetch(&switching).await;
    second.lock().offline = true;
    let failed = switching.metadata("1.root.json", 1 << 20).await.expect_err("both are gone");
    assert!(failed.is_temporary());
    assert_eq!(failed.to_string().matches("no network").count(), 2, "{failed}");
    first.lock().offline = false;
    fetch(&switching).await;
    let before = requests(&second);
    fetch(&switching).await;
    assert_eq!(requests(&second), before, "the first is the preferred one again");
}

#[test]
fn only_a_refusal_over_both_is_final() {
    let what = || "x".to_owned();
    let refused = || TransportError::Refused { what: what(), why: "status 403".into() };
    let gone = TransportError::Unavailable { what: what(), why: "timeout".into(), retry_after: None };
    assert!(both(&gone, refused()).is_temporary());
    let busy =
        TransportError::Unavailable { what: what(), why: "busy".into(), retry_after: Some(PROBE.first) };
    assert!(matches!(both(&busy, gone.clone()), TransportError::Unavailable { retry_after: Some(_), .. }));
    assert!(!both(&refused(), refused()).is_temporary());
    assert_eq!(
        both(&gone, TransportError::NotFound { what: what() }),
        TransportError::NotFound { what: what() }
    );
}
