-- Times are milliseconds since 1970 UTC. Hashes and bodies are kept as bytes. 64-bit counters of devices that use the top
-- bit (boot numbers) are stored as the signed number with the same bits.

CREATE TABLE operator_tokens (
    hash       BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE enrolment_tokens (
    hash       BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    device     TEXT,
    tags       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms    INTEGER,
    used_by    TEXT
) STRICT;

CREATE TABLE devices (
    tenant          TEXT NOT NULL,
    device          TEXT NOT NULL,
    tags            TEXT NOT NULL,
    platform        TEXT NOT NULL,
    enrolled_ms     INTEGER NOT NULL,
    revoked_ms      INTEGER,
    seen_ms         INTEGER,
    report          BLOB,
    report_boot     INTEGER,
    report_sequence INTEGER,
    desired_serial  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    serial       TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    device       TEXT NOT NULL,
    issued_ms    INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL,
    revoked_ms   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_device ON certificates (tenant, device);

-- Signed metadata, byte for byte.
CREATE TABLE metadata (
    role       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    bytes      BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (role, version)
) STRICT;

-- Targets that hold a bundle. A version that the newest targets metadata no longer names is kept with current = 0.
CREATE TABLE models (
    name         TEXT NOT NULL,
    version      TEXT NOT NULL,
    target       TEXT NOT NULL,
    bundle       BLOB NOT NULL,
    index_bytes  INTEGER NOT NULL,
    size_bytes   INTEGER NOT NULL,
    description  TEXT NOT NULL,
    published_ms INTEGER NOT NULL,
    current      INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

CREATE TABLE rollouts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT NOT NULL,
    model      TEXT NOT NULL,
    spec       TEXT NOT NULL,
    target     TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    stage      INTEGER NOT NULL,
    passed_ms  INTEGER,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX rollouts_by_model ON rollouts (tenant, model);

-- Devices that a rollout has asked, and what each was asked to run before.
CREATE TABLE rollout_devices (
    rollout          INTEGER NOT NULL REFERENCES rollouts (id),
    tenant           TEXT NOT NULL,
    device           TEXT NOT NULL,
    stage            INTEGER NOT NULL,
    outcome          TEXT NOT NULL,
    given_back       INTEGER NOT NULL DEFAULT 0,
    previous_version TEXT,
    previous_target  TEXT,
    previous_rollout TEXT,
    PRIMARY KEY (rollout, tenant, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_devices_by_device ON rollout_devices (tenant, device);

-- The desired state, one row per model.
CREATE TABLE assignments (
    tenant  TEXT NOT NULL,
    device  TEXT NOT NULL,
    model   TEXT NOT NULL,
    version TEXT NOT NULL,
    target  TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    rollout TEXT NOT NULL,
    PRIMARY KEY (tenant, device, model)
) STRICT, WITHOUT ROWID;

-- How often a version was offered to a device: the next offer carries a higher attempt.
CREATE TABLE offers (
    tenant  TEXT NOT NULL,
    device  TEXT NOT NULL,
    model   TEXT NOT NULL,
    version TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (tenant, device, model, version)
) STRICT, WITHOUT ROWID;

-- What devices say is active.
CREATE TABLE device_models (
    tenant  TEXT NOT NULL,
    device  TEXT NOT NULL,
    model   TEXT NOT NULL,
    version TEXT NOT NULL,
    bundle  BLOB NOT NULL,
    PRIMARY KEY (tenant, device, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_models_by_version ON device_models (tenant, model, version);

-- Every batch ever counted, so that none is counted twice.
CREATE TABLE batches (
    tenant      TEXT NOT NULL,
    device      TEXT NOT NULL,
    boot        INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, device, boot, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE windows (
    id          INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    device      TEXT NOT NULL,
    model       TEXT NOT NULL,
    version     TEXT NOT NULL,
    start_ms    INTEGER NOT NULL,
    end_ms      INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    body        BLOB NOT NULL
) STRICT;
CREATE INDEX windows_by_model ON windows (tenant, model, version, start_ms);
CREATE INDEX windows_by_age ON windows (received_ms);

CREATE TABLE telemetry_sums (
    tenant   TEXT NOT NULL,
    model    TEXT NOT NULL,
    version  TEXT NOT NULL,
    device   TEXT NOT NULL,
    batches  INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    errors   INTEGER NOT NULL,
    PRIMARY KEY (tenant, model, version, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE telemetry_sketches (
    tenant  TEXT NOT NULL,
    model   TEXT NOT NULL,
    version TEXT NOT NULL,
    sketch  BLOB NOT NULL,
    PRIMARY KEY (tenant, model, version)
) STRICT, WITHOUT ROWID;

-- Each row carries the SHA-256 of the row before it and of itself.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash     BLOB NOT NULL
) STRICT;
