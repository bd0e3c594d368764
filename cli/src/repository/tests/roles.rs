//! Rotation, delegations, thresholds, and a repository without a server.

use super::*;
use whimbrel_updater::{
    repo::{Delegation, NewTarget},
    tuf::Scope,
};

impl Operator {
    fn new_key(&self, name: &str) -> Key {
        Key::generate(&self.dir.path().join(name)).expect("a key")
    }

    fn file(&self, repository: &Repository, name: &str, content: &str) -> NewTarget {
        let from = self.dir.path().join("some file");
        std::fs::write(&from, content).expect("written");
        repository.keep_file(&from, name).expect("kept")
    }
}

/// The server's key as that of a static repository.
fn online(operator: &Operator) -> Key {
    let file = operator.dir.path().join("online.key");
    operator.online.write_new(&file).expect("written");
    Key::read(&file).expect("reads")
}

fn delegation(name: &str, keys: &[&Key], threshold: u64, pattern: &str) -> Delegation {
    Delegation {
        name: name.into(),
        signers: RoleSpec { keys: keys.iter().map(|k| k.public()).collect(), threshold },
        terminating: false,
        scope: Scope::Paths(vec![pattern.into()]),
    }
}

#[test]
fn a_rotation_waits_for_the_old_keys_and_the_new_ones() {
    let operator = Operator::new();
    let repository = operator.repository();
    let [a, b] = &operator.root;
    let carol = operator.new_key("carol.key");
    let id = b.id().expect("an id");
    let rotation = Rotation {
        add: vec![(ROOT.into(), carol.public())],
        remove: vec![(ROOT.into(), id[..8].to_owned())],
        ..Rotation::default()
    };
    let given = Given::new(&[], NOW);
    let view = repository.rotate(&rotation, given).expect("made");
    let standing =
        |view: &RoleView| view.signatures.iter().map(|s| (s.valid, s.threshold)).collect::<Vec<_>>();
    assert_eq!((view.version, standing(&view)), (2, vec![(0, 2), (0, 2)]));
    assert_eq!(standing(&repository.sign(ROOT, a).expect("signed")), [(1, 2), (1, 2)]);
    assert_eq!(standing(&repository.sign(ROOT, &carol).expect("signed")), [(1, 2), (2, 2)]);
    assert_eq!(repository.root_version().expect("readable"), 1, "the old threshold is not met");
    assert!(repository.sign(ROOT, b).expect("signed").complete);
    let (one, two) = (repository.root(1).expect("there"), repository.root(2).expect("there"));
    repo::check_root(Some(&one), &two).expect("a client follows");

    let twice = Rotation { add: vec![(ROOT.into(), carol.public())], ..Rotation::default() };
    assert_eq!(exit(repository.rotate(&twice, given)), Exit::Usage);
    let gone = Rotation { remove: vec![(ROOT.into(), id)], ..Rotation::default() };
    assert_eq!(exit(repository.rotate(&gone, given)), Exit::Usage);
    let alone = Rotation { thresholds: vec![("targets".into(), 2)], ..Rotation::default() };
    assert_eq!(exit(repository.rotate(&alone, given)), Exit::Usage, "one key cannot make two signatures");
    assert_eq!(repository.staged(ROOT).expect("readable"), None, "nothing of that was kept");
}

#[test]
fn a_draft_is_changed_until_enough_keys_have_signed_it() {
    let operator = Operator::new();
    let second = operator.new_key("second.key");
    let mut plan = operator.plan();
    plan.targets = RoleSpec { keys: vec![operator.release.public(), second.public()], threshold: 2 };
    let [a, b] = &operator.root;
    let repository = Repository::init(&operator.dir.path().join("r"), &plan, &[a, b], NOW).expect("made");
    let keys = [&operator.release];
    let given = Given::new(&keys, NOW);
    let one = repository.sign_file(TARGETS, operator.file(&repository, "a", "1"), given).expect("signed");
    assert_eq!((one.version, one.complete), (1, false));
    let two = repository.sign_file(TARGETS, operator.file(&repository, "b", "2"), Given::new(&[], NOW));
    let two = two.expect("made");
    assert_eq!((two.version, two.signatures[0].valid), (1, 0), "who signed before must see the change");
    assert_eq!(repository.version(TARGETS).expect("readable"), None);
    repository.sign(TARGETS, &second).expect("signed");
    assert!(repository.sign(TARGETS, &operator.release).expect("signed").complete);
    assert_eq!(repository.signed_targets().expect("readable").len(), 2);

    repository.renew_targets(TARGETS, given).expect("made");
    assert_eq!(repository.discard(TARGETS).expect("gone"), 2);
    assert_eq!(exit(repository.discard(TARGETS)), Exit::Usage);
}

#[test]
fn a_delegated_role_names_what_it_may_and_the_snapshot_wants_its_signatures() {
    let operator = Operator::new();
    let repository = operator.repository();
    let (team, guest, online) =
        (operator.new_key("team.key"), operator.new_key("guest.key"), online(&operator));
    let (release, team_keys, online_keys) = ([&operator.release], [&team], [&online]);
    let given = Given::new(&release, NOW);
    let views = repository.delegate(TARGETS, delegation("vision", &[&team], 1, "vision/*"), given);
    let complete: Vec<bool> = views.expect("made").iter().map(|v| v.complete).collect();
    assert_eq!(complete, [true, false], "the new role's metadata waits for its own key");
    let by_online = Given::new(&online_keys, NOW);
    assert_eq!(exit(repository.sign_snapshot(by_online)), Exit::Refused, "clients would miss it");

    let nested = delegation("vision/eu #1", &[&guest], 1, "vision/eu-*");
    repository.delegate("vision", nested.clone(), Given::new(&team_keys, NOW)).expect("made");
    repository.sign("vision/eu #1", &guest).expect("signed");
    let roles: Vec<String> = repository.targets_roles().expect("readable");
    assert_eq!(roles, ["targets", "vision", "vision/eu #1"]);
    let elsewhere = repository.delegate(TARGETS, nested, given);
    assert_eq!(exit(elsewhere), Exit::Usage, "one role, one delegator");
    let unserved = repository.delegate(TARGETS, delegation("a/../b", &[&team], 1, "*"), given);
    assert_eq!(exit(unserved), Exit::Usage);

    let file = |name: &str| operator.file(&repository, name, "content");
    let by_team = Given::new(&team_keys, NOW);
    repository.sign_file("vision", file("vision/eu-1"), by_team).expect("signed");
    assert_eq!(exit(repository.sign_file("vision", file("audio/1"), by_team)), Exit::Refused);
    assert_eq!(exit(repository.sign_file("vision", file("vision/2"), given)), Exit::Refused, "not its key");
    assert_eq!(exit(repository.sign_file("nobody", file("x"), given)), Exit::Usage);

    assert_eq!(repository.sign_snapshot(by_online).expect("signed"), 1);
    assert_eq!(exit(repository.sign_timestamp(given)), Exit::Refused, "not the online key");
    assert_eq!(repository.sign_timestamp(by_online).expect("signed"), 1);
    let status = repository.status(NOW).expect("readable");
    assert_eq!(status.next, Vec::<String>::new());
    let served = operator.dir.path().join("repo/1.vision/eu #1.json");
    assert_eq!(
        std::fs::read(served).expect("as a web server asks for it"),
        repository.file("vision/eu #1", 1).expect("there")
    );

    // Other keys for the role: what it signed before counts no more.
    repository.delegate(TARGETS, delegation("vision", &[&guest], 1, "vision/*"), given).expect("made");
    assert_eq!(exit(repository.sign_snapshot(by_online)), Exit::Refused);
    let guests = [&guest];
    repository.renew_targets("vision", Given::new(&guests, NOW)).expect("signed");
    assert_eq!(repository.sign_snapshot(by_online).expect("signed"), 2);

    repository.undelegate(TARGETS, "vision", given).expect("signed");
    assert_eq!(repository.targets_roles().expect("readable"), ["targets"]);
    assert_eq!(exit(repository.undelegate(TARGETS, "vision", given)), Exit::Usage);
}

#[test]
fn the_status_says_what_to_do_next() {
    let operator = Operator::new();
    let repository = operator.repository();
    let online = online(&operator);
    let (release, online_keys) = ([&operator.release], [&online]);
    let next = |now| repository.status(now).expect("readable").next;
    assert!(next(NOW)[0].contains("repo renew \"targets\""), "{:?}", next(NOW));
    operator.sign(&repository, &operator.bundle("1.0.0", "weights"), NOW);
    assert!(next(NOW)[0].contains("repo snapshot"), "{:?}", next(NOW));
    let by_online = Given::new(&online_keys, NOW);
    repository.sign_snapshot(by_online).expect("signed");
    assert!(next(NOW)[0].contains("repo timestamp"), "{:?}", next(NOW));
    repository.sign_timestamp(by_online).expect("signed");
    assert!(next(NOW).is_empty());
    let status = repository.status(NOW).expect("readable");
    let days: Vec<_> = status.roles.iter().map(|r| r.expires_in_days.expect("a date")).collect();
    assert_eq!(days, [730, 365, 30, 2]);
    assert!(next(NOW + Duration::days(3))[0].contains("repo timestamp"), "it has expired");

    let late = NOW + Duration::days(340);
    assert!(next(late)[0].contains("targets expires in 25 days"), "{:?}", next(late));
    repository.renew_targets(TARGETS, Given::new(&[], late)).expect("made");
    assert!(next(late)[0].contains("0 of 1 by root 1"), "{:?}", next(late));
    let after = NOW + Duration::days(366);
    repository.discard(TARGETS).expect("gone");
    let refused = repository.sign_snapshot(Given::new(&online_keys, after));
    assert_eq!(exit(refused), Exit::Refused, "targets have expired");
    repository.renew_targets(TARGETS, Given::new(&release, after)).expect("signed");
    repository.sign_snapshot(Given::new(&online_keys, after)).expect("signed");
}

#[test]
fn what_others_published_meanwhile_is_never_overwritten() {
    let operator = Operator::new();
    let repository = operator.repository();
    let one = operator.bundle("1.0.0", "weights");
    repository.sign_bundle(TARGETS, &one, Given::new(&[], NOW)).expect("made");
    let theirs = Repository { dir: operator.dir.path().join("theirs") };
    std::fs::create_dir(&theirs.dir).expect("a folder");
    theirs.write("1.root.json", &repository.root(1).expect("there")).expect("written");
    operator.sign(&theirs, &operator.bundle("2.0.0", "weights"), NOW);
    repository.adopt(&operator.publish(&theirs, None), NOW).expect("verifies");
    assert_eq!(exit(repository.sign(TARGETS, &operator.release)), Exit::Refused);
    assert_eq!(
        exit(repository.sign_bundle(TARGETS, &operator.bundle("3.0.0", "w"), Given::new(&[], NOW))),
        Exit::Refused
    );
    repository.discard(TARGETS).expect("gone");
    assert_eq!(operator.sign(&repository, &one, NOW), 2);
}

#[test]
fn names_that_no_address_can_carry_are_no_targets() {
    let operator = Operator::new();
    let repository = operator.repository();
    let from = operator.dir.path().join("a.key");
    for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a?b", "a#b", "a%2fb", "a\\b", "a\nb"] {
        assert_eq!(exit(repository.keep_file(&from, bad)), Exit::Usage, "{bad:?}");
    }
    let kept = repository.keep_file(&from, "dir/a b.txt").expect("kept");
    let file = format!("targets/dir/{}.a b.txt", kept.sha256);
    assert_eq!(repository.read(&file).expect("there"), std::fs::read(from).expect("reads"));
}
