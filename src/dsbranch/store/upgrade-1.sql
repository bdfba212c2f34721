-- From format 1 to format 2: pending layers, operations that undo, tags that move, checkpoints.

ALTER TABLE branches ADD COLUMN pending TEXT NOT NULL DEFAULT '[]';

ALTER TABLE operations ADD COLUMN undoes INTEGER;

ALTER TABLE moves RENAME TO moves_1;

DROP INDEX moves_operation;

CREATE TABLE moves (
    id        INTEGER PRIMARY KEY,
    operation INTEGER NOT NULL REFERENCES operations (id),
    name      TEXT    NOT NULL,
    branch    INTEGER,
    before    TEXT,
    after     TEXT
) STRICT;

INSERT INTO moves (operation, name, branch, before, after)
SELECT operation, name, json_extract(coalesce(before, after), '$.id'),
       json_set(before, '$.created_ns', made, '$.pending', json('[]')),
       json_set(after, '$.created_ns', made, '$.pending', json('[]'))
FROM (
    SELECT m.*, coalesce(b.created_ns, 0) AS made
    FROM moves_1 m LEFT JOIN branches b ON b.id = json_extract(coalesce(before, after), '$.id')
) ORDER BY operation;

DROP TABLE moves_1;

CREATE INDEX moves_operation ON moves (operation);

CREATE INDEX moves_branch ON moves (branch, operation);

CREATE TABLE checkpoints (
    layer  TEXT    PRIMARY KEY REFERENCES layers (id),
    top    TEXT    NOT NULL REFERENCES commits (id),
    bottom TEXT    NOT NULL REFERENCES commits (id),
    span   INTEGER NOT NULL,
    data   TEXT    REFERENCES layers (id)
) STRICT;

CREATE INDEX checkpoints_top ON checkpoints (top, span);

PRAGMA user_version = 2;
