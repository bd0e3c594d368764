//! One model: its machine, and the work that the machine wants done.

use super::{Core, Host, work};
use crate::{
    journal::{Record, Stage, UpdateRecord},
    machine::{Action, Event, State, Work, recover, report, step},
    transport::Transport,
};
use futures_util::future::BoxFuture;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use whimbrel_wire::{
    Digest, ModelName,
    desired::DesiredState,
    manifest::Probation,
    report::{ModelReport, Progress, Reason, ReasonKind},
};

/// How often live counts are published during probation.
const COUNTS_EVERY: Duration = Duration::from_secs(2);

/// What work tells while it goes on.
#[derive(Debug)]
pub(super) enum News {
    /// Something that the machine is to know.
    Event(Event),
    /// It waits for this, or not any more.
    Waiting(Option<Reason>),
}

pub(super) type Offers = watch::Receiver<Option<DesiredState>>;

pub(super) struct Driver<H, T> {
    core: Arc<Core<H, T>>,
    model: ModelName,
    state: State,
    work: Option<BoxFuture<'static, Event>>,
    progress: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    /// Why the work under way does not go on now. What failed and is tried again, the machine itself knows.
    waiting: Option<Reason>,
    /// When the candidate began to serve.
    serving_since: Instant,
    /// What was published last, and when.
    told: Option<(ModelReport, Instant)>,
    /// A bundle that the process before put in place and did not come to write down: kept at the clearing of the start.
    unnamed: Option<Digest>,
}

impl<H: Host, T: Transport> Driver<H, T> {
    /// A model that is new on the device.
    pub(super) fn new(core: Arc<Core<H, T>>, model: ModelName) -> Self {
        let driver = Self {
            core,
            model,
            state: State::default(),
            work: None,
            progress: mpsc::unbounded_channel(),
            serving_since: Instant::now(),
            waiting: None,
            told: None,
            unnamed: None,
        };
        driver.core.keep_report(report(&driver.model, &driver.state));
        driver
    }

    /// A model with a journal: returns once the host serves what it names.
    pub(super) async fn recover(core: Arc<Core<H, T>>, model: ModelName, record: Record) -> Self {
        let mut driver = Self::new(core, model);
        let policy = driver.candidate_policy(&record);
        driver.unnamed = driver.core.unnamed(&driver.model, &record);
        let (state, actions) = recover(record, policy);
        driver.state = state;
        // The disk may refuse the very first record: the machine says what serves all the same.
        if let Some(failed) = driver.perform(actions) {
            driver.apply(failed);
        }
        while !driver.state.can_stop()
            && let Some(work) = &mut driver.work
        {
            let event = work.await;
            driver.work = None;
            driver.apply(event);
        }
        // Asked for again, it is there; when something else comes first, it is in the way.
        driver.unnamed = None;
        driver.core.keep_report(report(&driver.model, &driver.state));
        driver
    }

    pub(super) const fn model(&self) -> &ModelName {
        &self.model
    }

    /// Follows the offers until their sender is gone and the host is at rest.
    pub(super) async fn run(mut self, mut offers: Offers, publish: &(impl Fn() + Sync)) {
        let mut open = true;
        let mut news = true;
        loop {
            if news && self.state.takes_offers() {
                news = false;
                self.offer(&offers);
            }
            if self.tell() {
                publish();
            }
            if !open && self.state.can_stop() {
                self.apply(Event::Stop);
                return;
            }
            tokio::select! {
                biased;
                event = next(&mut self.work), if self.work.is_some() => {
                    self.work = None;
                    self.apply(event);
                    // What was asked for meanwhile counts, and so does what a finished update was in the way of.
                    news |= matches!(self.state, State::Idle { .. });
                }
                Some(news) = self.progress.1.recv() => match news {
                    News::Event(event) => self.apply(event),
                    News::Waiting(reason) => self.waiting = reason,
                },
                changed = offers.changed(), if open => {
                    open = changed.is_ok();
                    news = open;
                }
            }
        }
    }

    /// Tells the machine what the newest desired state says about this model.
    fn offer(&mut self, offers: &Offers) {
        let offer = {
            let newest = offers.borrow();
            newest.as_ref().and_then(|s| s.models.iter().find(|m| m.name == self.model)).map(Into::into)
        };
        if let Some(offer) = offer {
            self.apply(Event::Desired(offer));
        }
    }

    fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::Failed(failure) = &event {
                tracing::warn!(model = %self.model, ?failure, "update work failed");
            }
            let before = std::mem::take(&mut self.state);
            let was_serving = matches!(before, State::Probation { .. });
            let (state, actions) = step(before, event);
            self.state = state;
            if !was_serving && matches!(self.state, State::Probation { .. }) {
                self.serving_since = Instant::now();
            }
            events.extend(self.perform(actions));
        }
    }

    /// Performs actions in order; an event when one failed.
    fn perform(&mut self, actions: Vec<Action>) -> Option<Event> {
        for action in actions {
            match action {
                Action::Save(record) => {
                    if let Err(error) = self.core.journal.write(&self.model, &record) {
                        tracing::error!(model = %self.model, %error, "the journal could not be written");
                        return Some(Event::SaveFailed(Reason::new(ReasonKind::Disk, error)));
                    }
                }
                Action::Run(work) => self.begin(work),
                Action::Cancel => (self.work, self.waiting) = (None, None),
                Action::Keep(mut bundles) => {
                    bundles.extend(self.unnamed.take());
                    self.core.clear(&self.model, &bundles);
                }
            }
        }
        None
    }

    fn begin(&mut self, work: Work) {
        // Progress of work that was given up is no progress of the new work.
        self.progress = mpsc::unbounded_channel();
        self.waiting = None;
        let context = work::Context {
            core: Arc::clone(&self.core),
            model: self.model.clone(),
            progress: self.progress.0.clone(),
            serving_since: self.serving_since,
        };
        self.work = Some(Box::pin(work::perform(context, work)));
    }

    /// Updates what is known about the model; whether that is to be published now. What is being settled is told once it is,
    /// and mere counts of requests not at every look.
    fn tell(&mut self) -> bool {
        if matches!(self.state, State::Settling { .. }) {
            return false;
        }
        let mut now = report(&self.model, &self.state);
        if let (Some(update), Some(reason)) = (&mut now.update, &self.waiting) {
            update.waiting = Some(reason.clone());
        }
        self.core.keep_report(now.clone());
        let due = match &self.told {
            Some((before, _)) if *before == now => false,
            Some((before, at)) if is_recount(before, &now) => at.elapsed() >= COUNTS_EVERY,
            _ => true,
        };
        if due {
            self.told = Some((now, Instant::now()));
        }
        due
    }

    /// The gates of the candidate that a record names, if its files can be read.
    fn candidate_policy(&self, record: &Record) -> Option<Probation> {
        let Some(UpdateRecord { stage: Stage::Probation { candidate, .. }, .. }) = &record.update else {
            return None;
        };
        match self.core.slots.open(&self.model, *candidate) {
            Ok(bundle) => Some(bundle.manifest.probation),
            Err(error) => {
                tracing::error!(model = %self.model, %error, "the candidate is gone");
                None
            }
        }
    }
}

/// Whether two reports of a model differ in the live counts of the same candidate only.
fn is_recount(before: &ModelReport, now: &ModelReport) -> bool {
    let (Some(before), Some(now)) = (&before.update, &now.update) else { return false };
    matches!((&before.progress, &now.progress), (Progress::Probation { .. }, Progress::Probation { .. }))
        && before.version == now.version
        && before.attempt == now.attempt
}

/// The end of the work under way; never, when there is none.
async fn next(work: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
