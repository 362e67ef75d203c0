-- Lists of backups come in pages, the newest first.
CREATE INDEX backups_by_id ON backups (id, deployment, shard);

-- The index while it is made again: it takes the place of the other one when it is whole.
CREATE TABLE rebuilt_backups (
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    id         TEXT NOT NULL,
    summary    TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, id)
);
CREATE TABLE rebuilt_copies (
    repository TEXT NOT NULL,
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    id         TEXT NOT NULL,
    state      TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, id, repository)
);
