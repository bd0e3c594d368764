"""Makes TUF repositories with python-tuf's Metadata API: `generate.py SCENARIO DIR`.

DIR gets `root.json`, where a client begins its trust, and the states of the repository one after another: `0/metadata`,
`0/targets`, `1/metadata`, … The content of every target is its name, a space, and the number of the state that it came with.
"""

import copy
import datetime
import hashlib
import os
import sys

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
LATER = NOW + datetime.timedelta(days=30)
PAST = NOW - datetime.timedelta(days=1)
TOP = ("root", "targets", "snapshot", "timestamp")


class Repository:
    """Signed parts, and the signers of each role. A state is what `publish` writes of them."""

    def __init__(self, out, make=CryptoSigner.generate_ed25519, consistent=True, hashes=("sha256",)):
        self.out, self.make, self.hashes = out, make, list(hashes)
        self.state = -1
        self.root = Root(expires=LATER, consistent_snapshot=consistent)
        self.targets = {"targets": Targets(expires=LATER)}
        self.snapshot, self.timestamp = Snapshot(expires=LATER), Timestamp(expires=LATER)
        self.signers = {role: [make()] for role in TOP}
        for role in TOP:
            self.root.add_key(self.signers[role][0].public_key, role)
        self.old_root_signers = []
        self.files, self.roots = {}, []

    def delegate(self, role, delegator="targets", paths=None, prefixes=None, terminating=False, threshold=1):
        """Delegates to a new role with `threshold` keys, all needed."""
        signers = [self.make() for _ in range(threshold)]
        keyids = [signer.public_key.keyid for signer in signers]
        above = self.targets[delegator]
        if above.delegations is None:
            above.delegations = Delegations({}, {})
        above.delegations.keys.update({s.public_key.keyid: s.public_key for s in signers})
        above.delegations.roles[role] = DelegatedRole(role, keyids, threshold, terminating, paths, prefixes)
        self.signers[role] = signers
        self.targets[role] = Targets(expires=LATER)
        self.snapshot.meta[f"{role}.json"] = MetaFile(1)

    def add(self, name, role="targets"):
        content = f"{name} {self.state + 1}".encode()
        self.files[name] = content
        self.targets[role].targets[name] = TargetFile.from_data(name, content, self.hashes)

    def rotate(self, role):
        """Another key for a top-level role, signed for by the old root keys and the new ones."""
        self.old_root_signers = list(self.signers["root"])
        for signer in self.signers[role]:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.signers[role] = [self.make()]
        self.root.add_key(self.signers[role][0].public_key, role)
        self.root.version += 1

    def bump(self, *roles):
        """The next versions of these roles, and of what names them."""
        for role in roles:
            self.targets[role].version += 1
        self.snapshot.version += 1
        self.timestamp.version += 1

    def sign(self, signed, signers):
        metadata = Metadata(copy.deepcopy(signed))
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish(self, unsigned=()):
        """Writes the next state. Roles in `unsigned` lack their last signature."""
        self.state += 1
        signers = lambda role: self.signers[role][: -1 if role in unsigned else None]
        if len(self.roots) < self.root.version:
            own = [s for s in self.signers["root"] if s not in self.old_root_signers]
            self.roots.append(self.sign(self.root, self.old_root_signers + own))
        files = {f"{n}.root.json": data for n, data in enumerate(self.roots, 1)}
        for role, signed in self.targets.items():
            data = self.sign(signed, signers(role))
            self.snapshot.meta[f"{role}.json"] = MetaFile(signed.version, len(data), self.hashes_of(data))
            files[self.name(role, signed.version)] = data
        data = self.sign(self.snapshot, signers("snapshot"))
        files[self.name("snapshot", self.snapshot.version)] = data
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version, len(data), self.hashes_of(data))
        files["timestamp.json"] = self.sign(self.timestamp, signers("timestamp"))
        for file, data in files.items():
            write(os.path.join(self.out, str(self.state), "metadata", file), data)
        for name, content in self.files.items():
            self.write_target(name, content)
        write(os.path.join(self.out, "root.json"), self.roots[0])

    def name(self, role, version):
        return f"{version}.{role}.json" if self.root.consistent_snapshot else f"{role}.json"

    def hashes_of(self, data):
        return {name: hashlib.new(name, data).hexdigest() for name in self.hashes}

    def write_target(self, name, content):
        folder, base = os.path.split(name)
        if self.root.consistent_snapshot:
            # One of its hashes, whichever the client picks.
            names = [f"{digest}.{base}" for digest in self.hashes_of(content).values()]
        else:
            names = [base]
        for base in names:
            write(os.path.join(self.out, str(self.state), "targets", folder, base), content)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def plain(out, **options):
    repository = Repository(out, **options)
    repository.add("a.txt")
    repository.add("dir/b.txt")
    repository.publish()
    repository.bump("targets")
    repository.add("dir/c.txt")
    repository.publish()


def ed25519(out):
    plain(out)


def ecdsa(out):
    plain(out, make=CryptoSigner.generate_ecdsa)


def rsa(out):
    plain(out, make=lambda: CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"))


def inconsistent(out):
    plain(out, consistent=False)


def sha512(out):
    plain(out, hashes=("sha512",))


def both_hashes(out):
    plain(out, hashes=("sha256", "sha512"))


def delegations(out):
    """Two levels, of which the second is the only one that names the target; a pattern that does not reach so far."""
    repository = Repository(out)
    repository.delegate("team", paths=["team/*"])
    repository.delegate("member", delegator="team", paths=["team/m-*"], threshold=2)
    repository.add("team/m-1.txt", "member")
    repository.add("team/sub/m-2.txt", "member")
    repository.publish()


def order(out):
    """Both roles name the target; the first, and what it delegates to, is asked before the second."""
    repository = Repository(out)
    repository.delegate("first", paths=["*"])
    repository.delegate("below", delegator="first", paths=["*"])
    repository.delegate("second", paths=["*"])
    repository.add("a.txt", "below")
    repository.targets["second"].targets["a.txt"] = TargetFile.from_data("a.txt", b"another", ["sha256"])
    repository.publish()


def terminating(out):
    """The first role ends the search for what it may name but does not."""
    repository = Repository(out)
    repository.delegate("first", paths=["kept/*"], terminating=True)
    repository.delegate("second", paths=["*", "kept/*"])
    repository.add("a.txt", "second")
    repository.add("kept/b.txt", "second")
    repository.publish()


def bins(out):
    """Sixteen bins by the first digit of the hash of the target's name."""
    repository = Repository(out)
    for digit in "0123456789abcdef":
        repository.delegate(f"bin-{digit}", prefixes=[digit])
    for name in ("a.txt", "dir/b.txt", "c.txt"):
        repository.add(name, f"bin-{hashlib.sha256(name.encode()).hexdigest()[0]}")
    repository.publish()


def odd_names(out, consistent=True):
    repository = Repository(out, consistent=consistent)
    for number, role in enumerate(("a/b", "?", "#1", "..", "100%", "größe", "a b", "1.targets")):
        repository.delegate(role, paths=[f"{number}.txt"])
        repository.add(f"{number}.txt", role)
    repository.publish()


def odd_names_inconsistent(out):
    odd_names(out, consistent=False)


def threshold_met(out):
    threshold(out, ())


def threshold_missed(out):
    threshold(out, ("targets",))


def threshold(out, unsigned):
    repository = Repository(out)
    second = CryptoSigner.generate_ed25519()
    repository.signers["targets"].append(second)
    repository.root.add_key(second.public_key, "targets")
    repository.root.roles["targets"].threshold = 2
    repository.add("a.txt")
    repository.publish(unsigned)


def delegated_threshold_missed(out):
    repository = Repository(out)
    repository.delegate("team", paths=["*"], threshold=2)
    repository.add("a.txt", "team")
    repository.publish(unsigned=("team",))


def rotation(out):
    """A new root key, then new online keys, then new release keys; one state after each."""
    repository = Repository(out)
    repository.add("a.txt")
    repository.publish()
    for role in ("root", "timestamp", "snapshot", "targets"):
        repository.rotate(role)
        repository.bump("targets")
        repository.add("a.txt")
        repository.publish()


def rotation_by_strangers(out):
    """The second root lists new keys, but the old ones did not sign it."""
    repository = Repository(out)
    repository.add("a.txt")
    repository.publish()
    repository.rotate("root")
    repository.old_root_signers = []
    repository.publish()


def changed_delegation(out):
    """The delegated role's key is another one in the second state, but its file is still signed by the old key."""
    repository = Repository(out)
    repository.delegate("team", paths=["*"])
    repository.add("a.txt", "team")
    repository.publish()
    old = repository.signers["team"]
    repository.delegate("team", paths=["*"])
    repository.signers["team"] = old
    repository.add("a.txt", "team")
    repository.targets["team"].version = 2
    repository.bump("targets")
    repository.publish()


def cached_delegation(out):
    """As before, but the role's file is the same in both states: a client that has it already must look at its keys again."""
    repository = Repository(out)
    repository.delegate("team", paths=["*"])
    repository.add("a.txt", "team")
    repository.publish()
    kept, old = repository.targets["team"], repository.signers["team"]
    repository.delegate("team", paths=["*"])
    repository.targets["team"], repository.signers["team"] = kept, old
    repository.bump("targets")
    repository.publish()


def expired(out, change):
    repository = Repository(out)
    repository.delegate("team", paths=["*"])
    repository.add("a.txt", "team")
    change(repository)
    repository.publish()


def expired_timestamp(out):
    expired(out, lambda r: setattr(r.timestamp, "expires", PAST))


def expired_snapshot(out):
    expired(out, lambda r: setattr(r.snapshot, "expires", PAST))


def expired_targets(out):
    expired(out, lambda r: setattr(r.targets["targets"], "expires", PAST))


def expired_delegated(out):
    expired(out, lambda r: setattr(r.targets["team"], "expires", PAST))


def rolled_back(out, change):
    repository = Repository(out)
    repository.add("a.txt")
    repository.bump("targets")
    repository.publish()
    change(repository)
    repository.publish()


def rolled_back_timestamp(out):
    rolled_back(out, lambda r: setattr(r.timestamp, "version", 1))


def rolled_back_snapshot(out):
    def change(repository):
        repository.timestamp.version += 1
        repository.snapshot.version = 1

    rolled_back(out, change)


def rolled_back_targets(out):
    def change(repository):
        repository.bump()
        repository.targets["targets"].version = 1

    rolled_back(out, change)


def wrong_target(out):
    """The server has other bytes than were signed."""
    repository = Repository(out)
    repository.add("a.txt")
    repository.publish()
    content = repository.files["a.txt"]
    digest = hashlib.sha256(content).hexdigest()
    write(os.path.join(out, "0", "targets", f"{digest}.a.txt"), content[::-1])


def mixed_versions(out):
    """The targets file is not the one that the snapshot names."""
    repository = Repository(out)
    repository.add("a.txt")
    repository.publish()
    signed = repository.targets["targets"]
    signed.unrecognized_fields["other"] = True
    data = repository.sign(signed, repository.signers["targets"])
    write(os.path.join(out, "0", "metadata", "1.targets.json"), data)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
