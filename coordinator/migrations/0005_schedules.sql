-- What is remembered of everything that happens by itself: since when its schedule is followed, and its last run.

CREATE TABLE scheduled (
    job        TEXT NOT NULL,
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    memory     TEXT NOT NULL,
    PRIMARY KEY (job, deployment, shard)
);

-- The snapshots of a run are the tasks that were given for it.
CREATE INDEX tasks_by_shard ON tasks (deployment, shard, given_ms);
