-- +goose Up
CREATE TABLE settings (          -- of the node
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE projects (
    id         TEXT    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL, -- '', 'sandbox' or 'home'
    name       TEXT    NOT NULL,
    enabled    INTEGER NOT NULL,
    settings   TEXT    NOT NULL, -- JSON
    version    BIGINT  NOT NULL, -- counts changes
    created_ms BIGINT  NOT NULL,
    updated_ms BIGINT  NOT NULL
);

CREATE TABLE keys (
    id         TEXT   NOT NULL PRIMARY KEY, -- of a browser key: the key itself, which is public
    project    TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind       TEXT   NOT NULL,             -- 'browser' or 'server'
    name       TEXT   NOT NULL,
    hash       TEXT   NOT NULL,             -- of a server key: SHA-256 of its secret part, hexadecimal
    allow      TEXT   NOT NULL,             -- JSON list of origins or networks
    version    BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX keys_project ON keys (project, id);

CREATE TABLE secrets (
    kid        TEXT   NOT NULL PRIMARY KEY,
    project    TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       TEXT   NOT NULL,
    value      TEXT   NOT NULL, -- HS256 is symmetric: it cannot be stored as a hash
    created_ms BIGINT NOT NULL
);
CREATE INDEX secrets_project ON secrets (project, kid);

CREATE TABLE channels (          -- definitions; who is in a channel is not stored
    project      TEXT    NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    capacity     INTEGER NOT NULL,
    waiting_room INTEGER NOT NULL,
    locked       INTEGER NOT NULL,
    version      BIGINT  NOT NULL,
    created_ms   BIGINT  NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE usage (
    project TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    day     TEXT   NOT NULL,     -- UTC, 2006-01-02
    metric  TEXT   NOT NULL,
    value   BIGINT NOT NULL,
    PRIMARY KEY (project, day, metric)
);

CREATE TABLE idempotency (
    id          TEXT    NOT NULL PRIMARY KEY, -- SHA-256 of who asked and of their key
    principal   TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,             -- SHA-256 of the request
    status      INTEGER NOT NULL,             -- 0: still at work
    response    TEXT    NOT NULL,             -- sealed: it may hold a key that is shown once
    created_ms  BIGINT  NOT NULL
);
CREATE INDEX idempotency_principal ON idempotency (principal);
CREATE INDEX idempotency_created ON idempotency (created_ms);

-- +goose Down
DROP TABLE idempotency;
DROP TABLE usage;
DROP TABLE channels;
DROP TABLE secrets;
DROP TABLE keys;
DROP TABLE projects;
DROP TABLE settings;
