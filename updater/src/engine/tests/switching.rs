//! An update that changes its transport in the middle of a bundle, and back.

use super::*;
use crate::{
    transport::{Switching, Transport, TransportError},
    tuf::Source,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::time::sleep;
use whimbrel_wire::Digest;

/// How long an answer is under way: so long that the first way is looked at again before the second has brought everything.
const TRAVEL: Duration = Duration::from_secs(20);
/// More than the engine ever asks for at the same time.
const IN_FLIGHT_MAX: usize = 16;

/// One way to the server, which can be cut: what is under way then is lost.
#[derive(Clone)]
struct Route {
    server: Server,
    state: Arc<Mutex<RouteState>>,
}

#[derive(Default)]
struct RouteState {
    cut: bool,
    /// Cuts itself once this many more chunks came.
    chunks_left: Option<usize>,
    /// Chunks that came, and how often.
    delivered: BTreeMap<Digest, usize>,
    /// Requests that were sent, whatever became of them.
    asked: usize,
    lost: usize,
}

impl Route {
    fn new(server: &Server, chunks_left: Option<usize>) -> Self {
        let state = RouteState { chunks_left, ..RouteState::default() };
        Self { server: server.clone(), state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RouteState> {
        self.state.lock().expect("no panic")
    }

    async fn travel(&self) -> Result<(), TransportError> {
        let cut = {
            let mut state = self.lock();
            state.asked += 1;
            state.cut
        };
        if !cut {
            sleep(TRAVEL).await;
        }
        let mut state = self.lock();
        if !state.cut {
            return Ok(());
        }
        state.lost += 1;
        Err(TransportError::Unavailable { what: "route".into(), why: "cut".into(), retry_after: None })
    }
}

impl Source for Route {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        self.travel().await?;
        self.server.metadata(file, size_bytes_max).await
    }
}

impl Transport for Route {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.travel().await?;
        self.server.target(file, size_bytes_max).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.travel().await?;
        {
            let mut state = self.lock();
            *state.delivered.entry(stored).or_default() += 1;
            if let Some(left) = &mut state.chunks_left {
                *left -= 1;
                if *left == 0 {
                    (state.cut, state.chunks_left) = (true, None);
                }
            }
        }
        self.server.chunk(stored, size_bytes_max).await
    }
}

/// Waits, in paused time, until something holds.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(Duration::from_secs(3600), wait).await.expect("it holds in time");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_transport_in_the_middle_of_a_bundle_loses_only_what_was_under_way() {
    let mut repo = Repo::new();
    let packed = pack("m", "1.0.0", &crate::testing::noise(9, 6_000_000), GATES);
    let chunks = packed.chunks().len();
    repo.release(&packed);
    let dir = tempfile::tempdir().expect("temp dir");
    Trust::init(&dir.path().join("trust"), &repo.root).expect("a good root");
    let (https, mqtt) = (Route::new(&repo.server, Some(10)), Route::new(&repo.server, None));

    let mut config = EngineConfig::new(dir.path(), Version::new(0, 1, 0));
    config.now = now;
    let transport = Switching::new(https.clone(), mqtt.clone());
    let engine = Engine::open(config, FakeHost::default(), transport).await.expect("opens");
    let wanted = DesiredModel {
        name: model(),
        version: Version::new(1, 0, 0),
        target: "m/1.0.0.wbi".into(),
        attempt: 1,
        rollout: String::new(),
    };
    let desired = DesiredState { serial: 1, models: vec![wanted], poll_s: 60 };
    let (_desired, receiver) = watch::channel(Some(desired));
    let (sender, mut reports) = watch::channel(engine.reports());
    let running = tokio::spawn(engine.run(receiver, move |reports| {
        sender.send_replace(reports);
    }));

    // HTTPS ends in the middle and comes back as soon as MQTT has taken over, so that the first look at it finds it; then MQTT ends.
    until(|| https.lock().cut && mqtt.lock().asked > 0).await;
    let by_https = https.lock().delivered.len();
    https.lock().cut = false;
    until(|| https.lock().delivered.len() >= by_https + 4).await;
    mqtt.lock().cut = true;
    let serves = |reports: &Vec<ModelReport>| {
        let update = reports.iter().find_map(|r| r.update.as_ref());
        update.is_some_and(|u| matches!(u.progress, Progress::Probation { .. }))
    };
    timeout(Duration::from_secs(3600), reports.wait_for(serves)).await.expect("in time").expect("runs");
    running.abort();

    let (https, mqtt) = (https.lock(), mqtt.lock());
    let delivered = https.delivered.values().chain(mqtt.delivered.values()).sum::<usize>();
    assert_eq!(delivered, chunks, "every chunk came, and none came twice");
    assert!(https.delivered.len() >= by_https + 4 && mqtt.delivered.len() >= 4);
    assert!((1..=IN_FLIGHT_MAX).contains(&https.lost), "{} were under way", https.lost);
    assert!(mqtt.lost <= IN_FLIGHT_MAX);
    assert!(chunks > 40, "{chunks} chunks: enough to be in the middle of");
}
