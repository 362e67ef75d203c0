-- What is wrong at this moment, and when each of it came and went.

CREATE TABLE alarms (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    sentence   TEXT NOT NULL,
    hint       TEXT NOT NULL,
    since_ms   BIGINT NOT NULL,
    PRIMARY KEY (deployment, shard, kind, subject)
);

CREATE TABLE events (
    sequence   BIGINT PRIMARY KEY,
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    what       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    sentence   TEXT NOT NULL,
    hint       TEXT NOT NULL
);
CREATE INDEX events_by_shard ON events (deployment, shard, sequence);

-- How the last run of a node's server ended.
CREATE TABLE ended_runs (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    node       TEXT NOT NULL,
    run        TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, node)
);

-- What all looks at one offset say together, in the place of the looks: until when a history is complete
-- there, by when that had been reached, and how exact the times are.
CREATE TABLE marks (
    deployment  TEXT NOT NULL,
    shard       TEXT NOT NULL,
    history     TEXT NOT NULL,
    seen_offset BIGINT NOT NULL,
    complete_ms BIGINT,
    reached_ms  BIGINT,
    within_ms   BIGINT NOT NULL,
    PRIMARY KEY (deployment, shard, history, seen_offset)
);
INSERT INTO marks (deployment, shard, history, seen_offset, complete_ms, reached_ms, within_ms)
    SELECT deployment, shard, history, seen_offset, MAX(at_ms) - 1000, MIN(at_ms) + 1000, 1000
    FROM samples GROUP BY deployment, shard, history, seen_offset;
DROP TABLE samples;
