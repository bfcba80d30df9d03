-- +goose Up
-- By whom, where and for whom: keyed hashes of what entries say of it, one row
-- for each. Rows of entries that were written with them are marked as clued.

CREATE TABLE clues (key INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID;
ALTER TABLE entries ADD COLUMN clued INTEGER;
CREATE INDEX entries_unclued ON entries (number) WHERE clued IS NULL;

-- +goose StatementBegin
CREATE TRIGGER clues_update BEFORE UPDATE ON clues
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: clues cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER clues_delete BEFORE DELETE ON clues WHEN OLD.number > (SELECT coalesce(max(minimum), 0) FROM prunes) AND coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: clues go only with the entry that seals them off'); END;
-- +goose StatementEnd
