//! `kill -9` at random moments of the real agent.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

#[test]
fn no_kill_leaves_a_device_without_a_whole_confirmed_version_or_with_older_trust() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let result = whimbrel_tests::kill_again_and_again(dir.path(), 40, 7);
    assert_eq!(result.violations, Vec::<String>::new(), "{:?}", result.stages);
    assert_eq!(result.kills, 40);
    assert!(result.while_serving > 0, "none was killed while it served: {result:?}");
}
