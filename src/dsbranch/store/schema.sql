-- The store: the only truth about names, parents and states. Format 2.
-- Times are nanoseconds since the epoch, UTC. Paths are bytes (BLOB): they need not be UTF-8.
-- docs/internals/format.md explains each table; the two change together.

PRAGMA application_id = 0x64736272;  -- "dsbr"
PRAGMA user_version = 2;             -- workspace format version

CREATE TABLE workspace (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         TEXT    NOT NULL,     -- random; names this workspace in mount tables
    base       BLOB    NOT NULL,     -- absolute path of the dataset as adopted
    base_dev   INTEGER NOT NULL,     -- st_dev and st_ino of its root when adopted
    base_ino   INTEGER NOT NULL,
    dialect    TEXT    NOT NULL CHECK (dialect IN ('trusted', 'user')),
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE layers (
    id         TEXT    PRIMARY KEY,
    state      TEXT    NOT NULL CHECK (state IN ('open', 'sealed')),
    dialect    TEXT    NOT NULL CHECK (dialect IN ('trusted', 'user')),
    created_ns INTEGER NOT NULL,
    sealed_ns  INTEGER,
    entries    INTEGER,              -- manifest rows, root included
    bytes      INTEGER,              -- disk usage of the regular files
    hashed     INTEGER NOT NULL DEFAULT 0,  -- 1: every regular file has a digest
    redirects  INTEGER NOT NULL DEFAULT 0,  -- 1: must be mounted with redirect_dir=on
    metacopy   INTEGER NOT NULL DEFAULT 0,  -- 1: must be mounted with metacopy=on
    CHECK ((state = 'sealed') = (sealed_ns IS NOT NULL))
) STRICT;

CREATE TABLE commits (
    seq     INTEGER PRIMARY KEY,     -- order of insertion: a parent's is lower than its child's
    id      TEXT    NOT NULL UNIQUE, -- 40 hex digits, see format.md
    layer   TEXT    REFERENCES layers (id),  -- null: the root commit, the base alone
    message TEXT    NOT NULL,
    author  TEXT    NOT NULL,
    time_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE parents (
    commit_id TEXT    NOT NULL REFERENCES commits (id),
    position  INTEGER NOT NULL,      -- 0: the stack continues there
    parent_id TEXT    NOT NULL REFERENCES commits (id),
    PRIMARY KEY (commit_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE branches (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    head       TEXT    NOT NULL REFERENCES commits (id),
    layer      TEXT    NOT NULL UNIQUE REFERENCES layers (id),  -- the open layer
    fork       TEXT    NOT NULL REFERENCES commits (id),
    created_ns INTEGER NOT NULL,
    pending    TEXT    NOT NULL DEFAULT '[]'  -- JSON list of sealed layers above head, newest first
) STRICT;

CREATE TABLE tags (
    name       TEXT    PRIMARY KEY,
    commit_id  TEXT    NOT NULL REFERENCES commits (id),
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE operations (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    verb    TEXT    NOT NULL,
    time_ns INTEGER NOT NULL,
    author  TEXT    NOT NULL,
    detail  TEXT    NOT NULL,        -- one line for people
    undoes  INTEGER                  -- the operation that this one reversed
) STRICT;

CREATE TABLE moves (
    id        INTEGER PRIMARY KEY,
    operation INTEGER NOT NULL REFERENCES operations (id),
    name      TEXT    NOT NULL,      -- of the branch or tag that moved
    branch    INTEGER,               -- the branch's id; null: a tag
    before    TEXT,                  -- JSON, see format.md; null: did not exist
    after     TEXT
) STRICT;
CREATE INDEX moves_operation ON moves (operation);
CREATE INDEX moves_branch ON moves (branch, operation);

CREATE TABLE checkpoints (
    layer  TEXT    PRIMARY KEY REFERENCES layers (id),
    top    TEXT    NOT NULL REFERENCES commits (id),  -- it shows what the layers from top down to,
    bottom TEXT    NOT NULL REFERENCES commits (id),  -- but without, bottom show
    span   INTEGER NOT NULL,         -- how many commits that are
    data   TEXT    REFERENCES layers (id)  -- lies right below it; null: it needs none
) STRICT;
CREATE INDEX checkpoints_top ON checkpoints (top, span);

CREATE TABLE mounts (
    id         INTEGER PRIMARY KEY,
    boot_id    TEXT    NOT NULL,
    namespace  INTEGER NOT NULL,     -- inode of the mount namespace
    mount_id   INTEGER NOT NULL,     -- unique in that boot
    path       BLOB    NOT NULL,
    commit_id  TEXT    NOT NULL REFERENCES commits (id),
    layer      TEXT    REFERENCES layers (id),  -- null: a read-only view
    lowers     TEXT    NOT NULL,     -- JSON list of layer ids, newest first
    created_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX mounts_layer ON mounts (layer);
