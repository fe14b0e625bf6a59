//! The tables of the job database, by the version that they came with.

/// Version 1.
pub(super) const JOBS: &str = "
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which jobs run
    id TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    call TEXT NOT NULL,                         -- JSON, may hold secrets, never shown
    shown TEXT NOT NULL,                        -- JSON, the same with secrets masked
    who TEXT NOT NULL,
    door TEXT NOT NULL,
    request TEXT NOT NULL,
    retry_of TEXT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created INTEGER NOT NULL,                   -- this and all times: milliseconds since 1970
    started INTEGER,
    finished INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancelled_by TEXT,                          -- who asked for it to end
    pid INTEGER, boot TEXT, start INTEGER,      -- who holds the lease, or held it last
    heartbeat INTEGER,
    result TEXT, retcode INTEGER, error TEXT,   -- JSON, number, JSON
    last_event INTEGER NOT NULL DEFAULT 0,
    event_bytes INTEGER NOT NULL DEFAULT 0,
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished IS NOT NULL))
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE events (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,                  -- from 1, without gaps where nothing was dropped
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('state', 'progress', 'message', 'end')),
    data TEXT NOT NULL,                         -- JSON
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;
";

/// Version 2: schedules.
pub(super) const SCHEDULES: &str = "
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    pattern TEXT,                               -- what it was when it was looked at last; null while it is off
    served INTEGER NOT NULL,                    -- the last scheduled instant that was served: seconds since 1970
    since INTEGER NOT NULL,                     -- first seen with this pattern: seconds since 1970
    job TEXT,                                   -- of the last run; null where that was none
    started INTEGER,                            -- this and below: milliseconds since 1970
    ended INTEGER,
    succeeded INTEGER,
    result TEXT CHECK (result IN ('success', 'failed', 'cancelled')),
    why TEXT,
    runs INTEGER NOT NULL DEFAULT 0,
    overlaps INTEGER NOT NULL DEFAULT 0,
    misfires INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_by_job ON schedules (job);
";

/// Version 2: notices. What had ended before is no news.
pub(super) const NOTICES: &str = "
ALTER TABLE jobs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;    -- whether its end was looked at
UPDATE jobs SET told = 1 WHERE finished IS NOT NULL;
CREATE INDEX jobs_untold ON jobs (number) WHERE finished IS NOT NULL AND told = 0;
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    made INTEGER NOT NULL,                      -- this and below: milliseconds since 1970
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    heard INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_due ON notices (due) WHERE heard IS NULL;
";
