//! Publishing over TLS to a server in this process.

mod server;

use super::*;
use crate::{
    error::Exit,
    repository::tests::{Operator, exit},
};
use server::FakeServer;
use time::OffsetDateTime;

const QUIET: Output = Output { json: true };

fn client(server: &FakeServer, token: &str) -> Client {
    Client::new(&server.address, token.to_owned(), server.ca_pem.as_bytes()).expect("a client")
}

/// Content of several chunks that does not compress.
fn weights() -> String {
    (0..120_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

#[tokio::test]
async fn a_bundle_is_published_once_and_can_be_verified_offline() {
    let operator = Operator::new();
    let server = FakeServer::start(operator.online.clone()).await;
    let client = client(&server, "secret");
    let repository = operator.repository();
    let now = OffsetDateTime::now_utc();
    assert_eq!(push_roots(&client, &repository).await.expect("pushed"), 1);
    assert_eq!(push_roots(&client, &repository).await.expect("again"), 0);

    let bundle = operator.bundle("1.0.0", &weights());
    operator.sign(&repository, &bundle, now);
    let first = publish(&client, &repository, TARGETS, &bundle, QUIET).await.expect("published");
    assert_eq!((first.uploaded_chunks, first.targets_version), (first.chunks, 1));
    let again = publish(&client, &repository, TARGETS, &bundle, QUIET).await.expect("again");
    assert_eq!((again.uploaded_chunks, again.targets_version), (0, 1));

    let file = operator.dir.path().join("x.wbundle");
    embed(&file, &bundle, &repository).expect("written");
    let root = repository.root(1).expect("there");
    let verified = read_bundle(&file).expect("reads").verify(&root, now).expect("trusted");
    assert_eq!((verified.root_version, verified.targets_version), (1, 1));
}

#[tokio::test]
async fn a_publication_that_was_cut_off_goes_on_where_it_stopped() {
    let operator = Operator::new();
    let server = FakeServer::start(operator.online.clone()).await;
    let client = client(&server, "secret");
    let repository = operator.repository();
    push_roots(&client, &repository).await.expect("pushed");
    let bundle = operator.bundle("1.0.0", &weights());
    let chunks = bundle.chunks().len();
    assert!(chunks > 3, "{chunks} chunks");
    operator.sign(&repository, &bundle, OffsetDateTime::now_utc());

    server.kept().chunks_before_failure = Some(2);
    assert_eq!(exit(publish(&client, &repository, TARGETS, &bundle, QUIET).await), Exit::Failed);
    assert_eq!(client.repository().await.expect("answers").targets_version, 0, "nothing half published");
    server.kept().chunks_before_failure = None;
    let rest = publish(&client, &repository, TARGETS, &bundle, QUIET).await.expect("published");
    assert!(rest.uploaded_chunks <= chunks - 2, "what was there is not sent again");
}

#[tokio::test]
async fn bundles_signed_together_are_published_in_the_order_of_signing() {
    let operator = Operator::new();
    let server = FakeServer::start(operator.online.clone()).await;
    let client = client(&server, "secret");
    let repository = operator.repository();
    push_roots(&client, &repository).await.expect("pushed");
    let (one, two) = (operator.bundle("1.0.0", "weights"), operator.bundle("2.0.0", "weights"));
    for bundle in [&one, &two] {
        operator.sign(&repository, bundle, OffsetDateTime::now_utc());
    }
    let early =
        publish(&client, &repository, TARGETS, &two, QUIET).await.expect_err("the first is not there");
    assert!(early.why.contains("digits/1.0.0.wbi"), "{early}");
    assert_eq!(
        publish(&client, &repository, TARGETS, &one, QUIET).await.expect("published").targets_version,
        1
    );
    assert_eq!(
        publish(&client, &repository, TARGETS, &two, QUIET).await.expect("published").targets_version,
        2
    );
}

#[tokio::test]
async fn a_folder_that_is_behind_is_told_to_pull() {
    let operator = Operator::new();
    let server = FakeServer::start(operator.online.clone()).await;
    let client = client(&server, "secret");
    let repository = operator.repository();
    push_roots(&client, &repository).await.expect("pushed");
    let now = OffsetDateTime::now_utc();

    // A colleague has the same root and publishes first.
    let theirs = operator.dir.path().join("theirs");
    std::fs::create_dir(&theirs).expect("a folder");
    std::fs::write(theirs.join("1.root.json"), repository.root(1).expect("there")).expect("written");
    let theirs = Repository::open(&theirs).expect("opens");
    let one = operator.bundle("1.0.0", "weights");
    operator.sign(&theirs, &one, now);
    publish(&client, &theirs, TARGETS, &one, QUIET).await.expect("published");

    assert!(
        push_targets(&client, &repository).await.expect_err("behind").hint.expect("a hint").contains("pull")
    );
    let pulled = pull(&client, &repository).await.expect("verifies");
    assert_eq!(pulled, ["1.targets.json", "1.snapshot.json", "timestamp.json"]);
    let two = operator.bundle("2.0.0", "weights");
    operator.sign(&repository, &two, now);
    assert_eq!(
        publish(&client, &repository, TARGETS, &two, QUIET).await.expect("published").targets_version,
        2
    );
}

#[tokio::test]
async fn strangers_are_refused_on_both_sides() {
    let operator = Operator::new();
    let server = FakeServer::start(operator.online.clone()).await;
    let failure = client(&server, "wrong").repository().await.expect_err("another token");
    assert_eq!((failure.exit, failure.why.as_str()), (Exit::Refused, "no such token"));

    let other = FakeServer::start(operator.online.clone()).await;
    let stranger =
        Client::new(&server.address, "secret".to_owned(), other.ca_pem.as_bytes()).expect("a client");
    let failure = stranger.repository().await.expect_err("another CA");
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.why.contains("certificate") || failure.why.contains("UnknownIssuer"), "{failure}");
    assert_eq!(client(&server, "secret").metadata("timestamp.json").await.expect("answers"), None);
}
