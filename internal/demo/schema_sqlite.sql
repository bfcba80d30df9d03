-- The recorder system's tables, SQLite form. Timestamps are naive UTC; transcripts.created_at is the
-- retention clock. Audio files and project files lie in one directory under the SHA-256 of their
-- content, so one blob may belong to a record and to a project.

CREATE TABLE IF NOT EXISTS service_state (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    service_name   varchar   NOT NULL UNIQUE,
    last_heartbeat datetime
);

CREATE TABLE IF NOT EXISTS projects (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    name               varchar   NOT NULL,
    sensitivity        varchar   NOT NULL DEFAULT 'standard',   -- standard | sensitive
    status             varchar   NOT NULL DEFAULT 'active',     -- active | archived | destroyed
    created_at         datetime NOT NULL,
    updated_at         datetime NOT NULL,
    started_working_at datetime,
    start_date         date      NOT NULL DEFAULT CURRENT_DATE,
    due_date           date
);
CREATE INDEX IF NOT EXISTS ix_projects_name ON projects (name);
CREATE INDEX IF NOT EXISTS ix_projects_sensitivity ON projects (sensitivity);
CREATE INDEX IF NOT EXISTS ix_projects_status ON projects (status);
CREATE INDEX IF NOT EXISTS ix_projects_created_at ON projects (created_at);
CREATE INDEX IF NOT EXISTS ix_projects_started_working_at ON projects (started_working_at);
CREATE INDEX IF NOT EXISTS ix_projects_start_date ON projects (start_date);
CREATE INDEX IF NOT EXISTS ix_projects_due_date ON projects (due_date);

CREATE TABLE IF NOT EXISTS project_notes (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id          integer   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    title               varchar   NOT NULL,
    body_text           text      NOT NULL,
    note_integrity_hash varchar   NOT NULL,     -- sha256 of body_text
    created_at          datetime NOT NULL,
    updated_at          datetime NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_project_notes_project_id ON project_notes (project_id);
CREATE INDEX IF NOT EXISTS ix_project_notes_note_integrity_hash ON project_notes (note_integrity_hash);

CREATE TABLE IF NOT EXISTS project_files (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id        integer   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    original_filename varchar   NOT NULL,       -- personal data: only in the database, never on disk
    sha256            varchar   NOT NULL UNIQUE,
    mime_type         varchar   NOT NULL,
    size_bytes        integer   NOT NULL,
    stored_encrypted  boolean   NOT NULL DEFAULT 1,
    storage_path      varchar   NOT NULL,       -- {sha256}.bin : SAME directory as audio_assets, so blobs can be shared
    created_at        datetime NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_project_files_project_id ON project_files (project_id);
CREATE INDEX IF NOT EXISTS ix_project_files_sha256 ON project_files (sha256);

CREATE TABLE IF NOT EXISTS project_audit_events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id    integer   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,  -- the trail dies with its subject
    action        varchar   NOT NULL,
    severity      varchar   NOT NULL DEFAULT 'info',            -- info | warning | critical
    actor         varchar   DEFAULT 'system',
    request_id    varchar,
    created_at    datetime NOT NULL,
    metadata_json json
);
CREATE INDEX IF NOT EXISTS ix_project_audit_events_project_id ON project_audit_events (project_id);
CREATE INDEX IF NOT EXISTS ix_project_audit_events_action ON project_audit_events (action);
CREATE INDEX IF NOT EXISTS ix_project_audit_events_severity ON project_audit_events (severity);
CREATE INDEX IF NOT EXISTS ix_project_audit_events_request_id ON project_audit_events (request_id);
CREATE INDEX IF NOT EXISTS idx_audit_project_severity ON project_audit_events (project_id, severity);

CREATE TABLE IF NOT EXISTS transcripts (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    title              varchar   NOT NULL,
    source             varchar   NOT NULL,      -- interview | meeting | upload
    language           varchar   NOT NULL DEFAULT 'sv',
    duration_seconds   integer,
    status             varchar   NOT NULL DEFAULT 'uploaded',
                                                -- uploaded | transcribing | ready | reviewed | archived | deleted
    created_at         datetime NOT NULL,      -- the retention clock, naive UTC
    updated_at         datetime NOT NULL,
    project_id         integer   CONSTRAINT fk_transcripts_project_id REFERENCES projects (id) ON DELETE SET NULL,
    raw_integrity_hash varchar                  -- sha256 of segment texts joined by newline, in start_ms order
);
CREATE INDEX IF NOT EXISTS ix_transcripts_title ON transcripts (title);
CREATE INDEX IF NOT EXISTS ix_transcripts_source ON transcripts (source);
CREATE INDEX IF NOT EXISTS ix_transcripts_language ON transcripts (language);
CREATE INDEX IF NOT EXISTS ix_transcripts_status ON transcripts (status);
CREATE INDEX IF NOT EXISTS ix_transcripts_created_at ON transcripts (created_at);
CREATE INDEX IF NOT EXISTS ix_transcripts_project_id ON transcripts (project_id);
CREATE INDEX IF NOT EXISTS ix_transcripts_raw_integrity_hash ON transcripts (raw_integrity_hash);

CREATE TABLE IF NOT EXISTS transcript_segments (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    transcript_id integer   NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE,
    start_ms      integer   NOT NULL,
    end_ms        integer   NOT NULL,
    speaker_label varchar   NOT NULL,
    text          text      NOT NULL,
    confidence    float,
    created_at    datetime NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_transcript_segments_transcript_id ON transcript_segments (transcript_id);
CREATE INDEX IF NOT EXISTS ix_transcript_segments_start_ms ON transcript_segments (start_ms);
CREATE INDEX IF NOT EXISTS ix_transcript_segments_speaker_label ON transcript_segments (speaker_label);
CREATE INDEX IF NOT EXISTS idx_segment_transcript_start ON transcript_segments (transcript_id, start_ms);

CREATE TABLE IF NOT EXISTS transcript_audit_events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    transcript_id integer   NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE,  -- the trail dies with its subject
    action        varchar   NOT NULL,           -- created | updated | segments_upserted | exported | deleted
    actor         varchar   DEFAULT 'system',
    created_at    datetime NOT NULL,
    metadata_json json
);
CREATE INDEX IF NOT EXISTS ix_transcript_audit_events_transcript_id ON transcript_audit_events (transcript_id);
CREATE INDEX IF NOT EXISTS ix_transcript_audit_events_action ON transcript_audit_events (action);

CREATE TABLE IF NOT EXISTS audio_assets (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id     integer   REFERENCES projects (id) ON DELETE CASCADE,
    transcript_id  integer   NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE,
    sha256         varchar   NOT NULL,          -- of the PLAINTEXT; the file holds Fernet ciphertext
    mime_type      varchar   NOT NULL,
    size_bytes     integer   NOT NULL,          -- of the plaintext too
    storage_path   varchar   NOT NULL,          -- {sha256}.bin under /app/data/files
    created_at     datetime NOT NULL,
    destroy_status varchar   NOT NULL DEFAULT 'none',   -- none | pending | destroyed (never written by the code)
    destroyed_at   datetime
);
CREATE UNIQUE INDEX IF NOT EXISTS ix_audio_assets_sha256 ON audio_assets (sha256);   -- one owner per content, across all transcripts
CREATE INDEX IF NOT EXISTS ix_audio_assets_project_id ON audio_assets (project_id);
CREATE INDEX IF NOT EXISTS ix_audio_assets_transcript_id ON audio_assets (transcript_id);
CREATE INDEX IF NOT EXISTS ix_audio_assets_created_at ON audio_assets (created_at);
CREATE INDEX IF NOT EXISTS idx_audio_transcript ON audio_assets (transcript_id);
CREATE INDEX IF NOT EXISTS idx_audio_project ON audio_assets (project_id);
CREATE INDEX IF NOT EXISTS ix_audio_assets_destroy_status ON audio_assets (destroy_status);
