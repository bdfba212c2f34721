PRAGMA application_id = 1685283442;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE branches (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    head       TEXT    NOT NULL REFERENCES commits (id),
    layer      TEXT    NOT NULL UNIQUE REFERENCES layers (id),  -- the open layer
    fork       TEXT    NOT NULL REFERENCES commits (id),
    created_ns INTEGER NOT NULL
) STRICT;
INSERT INTO "branches" VALUES(1,'main','06692269cea3b7df2a4d3fdcced3ef62b4af7bbc','r5giabseje','43af90c4f2d5b490ccadbdabba98c122ccf25f32',1795456153972771887);
INSERT INTO "branches" VALUES(2,'exp1','06692269cea3b7df2a4d3fdcced3ef62b4af7bbc','tdaaro0yxd','046972fc159929c3bcf7e06ecd3c6d3b2260a4e2',1795456153984803622);
CREATE TABLE commits (
    seq     INTEGER PRIMARY KEY,     -- order of insertion: a parent's is lower than its child's
    id      TEXT    NOT NULL UNIQUE, -- 40 hex digits, see format.md
    layer   TEXT    REFERENCES layers (id),  -- null: the root commit, the base alone
    message TEXT    NOT NULL,
    author  TEXT    NOT NULL,
    time_ns INTEGER NOT NULL
) STRICT;
INSERT INTO "commits" VALUES(1,'43af90c4f2d5b490ccadbdabba98c122ccf25f32',NULL,'adopt /data/set','ada',1795456153972771887);
INSERT INTO "commits" VALUES(2,'046972fc159929c3bcf7e06ecd3c6d3b2260a4e2','81by8e9qab','first','ada',5);
INSERT INTO "commits" VALUES(3,'06692269cea3b7df2a4d3fdcced3ef62b4af7bbc','41wos9mfvu','second','ada',5);
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
INSERT INTO "layers" VALUES('81by8e9qab','sealed','trusted',1795456153972771887,2,3,4096,1,0,0);
INSERT INTO "layers" VALUES('evh9dzur3w','open','trusted',1,NULL,NULL,NULL,0,0,0);
INSERT INTO "layers" VALUES('41wos9mfvu','sealed','trusted',1,2,3,4096,1,0,0);
INSERT INTO "layers" VALUES('tdaaro0yxd','open','trusted',1,NULL,NULL,NULL,0,0,0);
INSERT INTO "layers" VALUES('r5giabseje','open','trusted',1,NULL,NULL,NULL,0,0,0);
INSERT INTO "layers" VALUES('cqozpoc98g','open','trusted',1,NULL,NULL,NULL,0,0,0);
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
CREATE TABLE moves (
    operation INTEGER NOT NULL REFERENCES operations (id),
    name      TEXT    NOT NULL,      -- the branch that moved
    before    TEXT,                  -- JSON {"id","head","layer","fork"}; null: did not exist
    after     TEXT,
    PRIMARY KEY (name, operation)
) STRICT, WITHOUT ROWID;
INSERT INTO "moves" VALUES(3,'exp1',NULL,'{"id":2,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"41wos9mfvu","fork":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2"}');
INSERT INTO "moves" VALUES(4,'exp1','{"id":2,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"41wos9mfvu","fork":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2"}','{"id":2,"head":"06692269cea3b7df2a4d3fdcced3ef62b4af7bbc","layer":"tdaaro0yxd","fork":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2"}');
INSERT INTO "moves" VALUES(6,'gone',NULL,'{"id":3,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"cqozpoc98g","fork":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2"}');
INSERT INTO "moves" VALUES(7,'gone','{"id":3,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"cqozpoc98g","fork":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2"}',NULL);
INSERT INTO "moves" VALUES(1,'main',NULL,'{"id":1,"head":"43af90c4f2d5b490ccadbdabba98c122ccf25f32","layer":"81by8e9qab","fork":"43af90c4f2d5b490ccadbdabba98c122ccf25f32"}');
INSERT INTO "moves" VALUES(2,'main','{"id":1,"head":"43af90c4f2d5b490ccadbdabba98c122ccf25f32","layer":"81by8e9qab","fork":"43af90c4f2d5b490ccadbdabba98c122ccf25f32"}','{"id":1,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"evh9dzur3w","fork":"43af90c4f2d5b490ccadbdabba98c122ccf25f32"}');
INSERT INTO "moves" VALUES(5,'main','{"id":1,"head":"046972fc159929c3bcf7e06ecd3c6d3b2260a4e2","layer":"evh9dzur3w","fork":"43af90c4f2d5b490ccadbdabba98c122ccf25f32"}','{"id":1,"head":"06692269cea3b7df2a4d3fdcced3ef62b4af7bbc","layer":"r5giabseje","fork":"43af90c4f2d5b490ccadbdabba98c122ccf25f32"}');
CREATE TABLE operations (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    verb    TEXT    NOT NULL,
    time_ns INTEGER NOT NULL,
    author  TEXT    NOT NULL,
    detail  TEXT    NOT NULL         -- one line for people
) STRICT;
INSERT INTO "operations" VALUES(1,'init',1795456153972771887,'ada','adopt /data/set');
INSERT INTO "operations" VALUES(2,'commit',1795456153984109927,'ada','first');
INSERT INTO "operations" VALUES(3,'create',1795456153984803622,'ada','exp1');
INSERT INTO "operations" VALUES(4,'commit',1795456153985312701,'ada','second');
INSERT INTO "operations" VALUES(5,'rollback',1795456153985773198,'bob','to');
INSERT INTO "operations" VALUES(6,'create',1795456153986067617,'ada','gone');
INSERT INTO "operations" VALUES(7,'delete',1795456153986416307,'bob','gone');
CREATE TABLE parents (
    commit_id TEXT    NOT NULL REFERENCES commits (id),
    position  INTEGER NOT NULL,      -- 0: the stack continues there
    parent_id TEXT    NOT NULL REFERENCES commits (id),
    PRIMARY KEY (commit_id, position)
) STRICT, WITHOUT ROWID;
INSERT INTO "parents" VALUES('046972fc159929c3bcf7e06ecd3c6d3b2260a4e2',0,'43af90c4f2d5b490ccadbdabba98c122ccf25f32');
INSERT INTO "parents" VALUES('06692269cea3b7df2a4d3fdcced3ef62b4af7bbc',0,'046972fc159929c3bcf7e06ecd3c6d3b2260a4e2');
CREATE TABLE tags (
    name       TEXT    PRIMARY KEY,
    commit_id  TEXT    NOT NULL REFERENCES commits (id),
    created_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE workspace (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         TEXT    NOT NULL,     -- random; names this workspace in mount tables
    base       BLOB    NOT NULL,     -- absolute path of the dataset as adopted
    base_dev   INTEGER NOT NULL,     -- st_dev and st_ino of its root when adopted
    base_ino   INTEGER NOT NULL,
    dialect    TEXT    NOT NULL CHECK (dialect IN ('trusted', 'user')),
    created_ns INTEGER NOT NULL
) STRICT;
INSERT INTO "workspace" VALUES(1,'hhexb15de4',X'2F646174612F736574',65024,2195905,'trusted',1795456153972771887);
CREATE INDEX moves_operation ON moves (operation);
CREATE INDEX mounts_layer ON mounts (layer);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('branches',3);
INSERT INTO "sqlite_sequence" VALUES('operations',7);
COMMIT;
