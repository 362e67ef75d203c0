-- Which repository has which backup, and what is known of that copy.

CREATE TABLE copies (
    repository TEXT NOT NULL,
    deployment TEXT NOT NULL,
    shard      TEXT NOT NULL,
    id         TEXT NOT NULL,
    state      TEXT NOT NULL,
    PRIMARY KEY (deployment, shard, id, repository)
);
INSERT INTO copies (repository, deployment, shard, id, state)
    SELECT 'main', deployment, shard, id, '{}' FROM backups;
