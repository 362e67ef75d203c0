-- Every statement about a fork in the order in which it was learned, also those that contradict an earlier
-- one: only all of them together give the same tree, and the same doubts, again.

CREATE TABLE statements (
    deployment    TEXT NOT NULL,
    shard         TEXT NOT NULL,
    child         TEXT NOT NULL,
    parent        TEXT NOT NULL,
    parent_offset BIGINT NOT NULL,
    evidence      TEXT NOT NULL,
    sequence      BIGINT NOT NULL,
    recorded      SMALLINT NOT NULL,
    PRIMARY KEY (deployment, shard, child, parent, parent_offset, evidence)
);
INSERT INTO statements
    SELECT deployment, shard, child, parent, parent_offset, evidence, 0, recorded FROM edges;
DROP TABLE edges;
CREATE INDEX statements_by_sequence ON statements (sequence);

-- Backups that an operator has said to be right although they hold far less than those before them.
CREATE TABLE vouches (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    record_id  TEXT NOT NULL,
    vouch      TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, record_id)
);
