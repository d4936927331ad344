-- Bindings that outlive a restart: those that do not live on a connection.
CREATE TABLE location (
    -- the canonical address-of-record, e.g. sip:alice@example.com
    aor TEXT NOT NULL PRIMARY KEY,
    -- when the last of its bindings lapses, in seconds since the epoch; the row may then be deleted
    expires_at REAL NOT NULL,
    -- its bindings: a JSON list of objects with the fields of registrar.records.Binding
    bindings TEXT NOT NULL
) WITHOUT ROWID;
