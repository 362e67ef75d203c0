-- The catalog: an index of the repository, and what was seen in the last minutes.
-- The same text runs on SQLite and PostgreSQL: BIGINT for numbers and times (milliseconds since 1970),
-- SMALLINT for truth, TEXT for ids and for JSON.

CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    record      TEXT NOT NULL,
    redeemed_ms BIGINT
);

CREATE TABLE enrolments (
    serial        TEXT PRIMARY KEY,
    deployment    TEXT NOT NULL,
    shard         TEXT NOT NULL,
    site          TEXT NOT NULL,
    node          TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    not_after_ms  BIGINT NOT NULL,
    enrolled_ms   BIGINT NOT NULL,
    replaced_ms   BIGINT
);
CREATE INDEX enrolments_by_node ON enrolments (deployment, node);

CREATE TABLE backups (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    id         TEXT NOT NULL,
    summary    TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, id)
);

CREATE TABLE observations (
    deployment  TEXT NOT NULL,
    node        TEXT NOT NULL,
    shard       TEXT NOT NULL,
    site        TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    observation TEXT NOT NULL,
    PRIMARY KEY (deployment, node)
);

CREATE TABLE edges (
    deployment    TEXT NOT NULL,
    shard         TEXT NOT NULL,
    child         TEXT NOT NULL,
    parent        TEXT NOT NULL,
    parent_offset BIGINT NOT NULL,
    evidence      TEXT NOT NULL,
    recorded      SMALLINT NOT NULL,
    PRIMARY KEY (deployment, shard, child)
);

CREATE TABLE findings (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    sentence   TEXT NOT NULL,
    first_ms   BIGINT NOT NULL,
    PRIMARY KEY (deployment, shard, sentence)
);

-- The greatest offset ever seen in a history, and where.
CREATE TABLE high_water (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    history    TEXT NOT NULL,
    seen_offset BIGINT NOT NULL,
    node       TEXT NOT NULL,
    seen_ms    BIGINT NOT NULL,
    PRIMARY KEY (deployment, shard, history)
);

-- Which offset a history's writer had reached when: what "data as of" is read from.
CREATE TABLE samples (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    history    TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    seen_offset BIGINT NOT NULL,
    PRIMARY KEY (deployment, shard, history, at_ms)
);

CREATE TABLE tasks (
    id         TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    site       TEXT NOT NULL,
    node       TEXT NOT NULL,
    work       TEXT NOT NULL,
    boot_id    TEXT,
    given_ms   BIGINT NOT NULL,
    ended_ms   BIGINT,
    failure    TEXT
);

CREATE TABLE accepted (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    record_id  TEXT NOT NULL,
    decision   TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, record_id)
);
