-- +goose Up
-- The ledger's tables. What they hold is specified in docs/ledger-format.md.

CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- What was written, for ever: entries, leaves of their batches, tree nodes.
-- A row holds count entries that were written together, the first of which has
-- the number, as a C2SP tlog-tiles entry bundle, and their leaf hashes. No row
-- reaches over a multiple of 256.
CREATE TABLE entries (number INTEGER PRIMARY KEY, count INTEGER NOT NULL, bundle BLOB NOT NULL, hashes BLOB NOT NULL, token BLOB);
CREATE TABLE leaves (number INTEGER PRIMARY KEY, blob BLOB NOT NULL);
CREATE TABLE nodes (level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx)) WITHOUT ROWID;
CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, note TEXT NOT NULL);
CREATE INDEX checkpoints_size ON checkpoints (size, id);

-- What can be destroyed, by an entry that says so.
CREATE TABLE sealed (number INTEGER PRIMARY KEY, texts BLOB NOT NULL);
CREATE TABLE lookup (number INTEGER PRIMARY KEY, filter BLOB NOT NULL);
CREATE TABLE sealings (entry INTEGER NOT NULL, target INTEGER NOT NULL, slots BLOB NOT NULL, PRIMARY KEY (entry, target)) WITHOUT ROWID;
CREATE INDEX sealings_target ON sealings (target, entry);
CREATE TABLE prunes (entry INTEGER PRIMARY KEY, minimum INTEGER NOT NULL);

-- Projections: they follow from the entries and can be built again.
CREATE TABLE blocks (block INTEGER PRIMARY KEY, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL);
CREATE TABLE marks (key TEXT NOT NULL, block INTEGER NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (key, block)) WITHOUT ROWID;
CREATE TABLE answers (intent INTEGER NOT NULL, outcome INTEGER NOT NULL, PRIMARY KEY (intent, outcome)) WITHOUT ROWID;
CREATE TABLE open_intents (number INTEGER PRIMARY KEY, items INTEGER NOT NULL);

-- +goose StatementBegin
CREATE TRIGGER meta_update BEFORE UPDATE ON meta
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: meta cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entries_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: entries cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER leaves_update BEFORE UPDATE ON leaves
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: leaves cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER nodes_update BEFORE UPDATE ON nodes
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: nodes cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoints_update BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: checkpoints cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealings_update BEFORE UPDATE ON sealings
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealings cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER prunes_update BEFORE UPDATE ON prunes
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: prunes cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER blocks_update BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: blocks cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER marks_update BEFORE UPDATE ON marks
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: marks cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER answers_update BEFORE UPDATE ON answers
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: answers cannot be changed'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER meta_delete BEFORE DELETE ON meta
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: meta cannot be deleted'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER nodes_delete BEFORE DELETE ON nodes
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: nodes cannot be deleted'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoints_delete BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: checkpoints cannot be deleted'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealings_delete BEFORE DELETE ON sealings
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealings cannot be deleted'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER prunes_delete BEFORE DELETE ON prunes
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: prunes cannot be deleted'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entries_delete BEFORE DELETE ON entries WHEN OLD.number > (SELECT coalesce(max(minimum), 0) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: entries can only be pruned'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER leaves_delete BEFORE DELETE ON leaves WHEN OLD.number > (SELECT coalesce(max(minimum), 0) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: leaves can only be pruned'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER answers_delete BEFORE DELETE ON answers WHEN OLD.intent > (SELECT coalesce(max(minimum), 0) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: answers can only be pruned'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER blocks_delete BEFORE DELETE ON blocks WHEN (OLD.block + 1) * 256 > (SELECT coalesce(max(minimum), 0) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: blocks can only be pruned'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER marks_delete BEFORE DELETE ON marks WHEN (OLD.block + 1) * 256 > (SELECT coalesce(max(minimum), 0) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: marks can only be pruned'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealed_update BEFORE UPDATE ON sealed WHEN NEW.number <> OLD.number OR coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealed changes only with the entry that seals it off'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealed_delete BEFORE DELETE ON sealed WHEN OLD.number > (SELECT coalesce(max(minimum), 0) FROM prunes) AND coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealed changes only with the entry that seals it off'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER lookup_update BEFORE UPDATE ON lookup WHEN NEW.number <> OLD.number OR coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: lookup changes only with the entry that seals it off'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER lookup_delete BEFORE DELETE ON lookup WHEN OLD.number > (SELECT coalesce(max(minimum), 0) FROM prunes) AND coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: lookup changes only with the entry that seals it off'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entries_replace BEFORE INSERT ON entries WHEN NEW.number <= (SELECT max(number) FROM entries)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: entries cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER leaves_replace BEFORE INSERT ON leaves WHEN NEW.number <= (SELECT max(number) FROM leaves)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: leaves cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealed_replace BEFORE INSERT ON sealed WHEN NEW.number <= (SELECT max(number) FROM sealed)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealed cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER lookup_replace BEFORE INSERT ON lookup WHEN NEW.number <= (SELECT max(number) FROM lookup)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: lookup cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER nodes_replace BEFORE INSERT ON nodes WHEN EXISTS (SELECT 1 FROM nodes WHERE level = NEW.level AND idx = NEW.idx)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: nodes cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER meta_replace BEFORE INSERT ON meta WHEN EXISTS (SELECT 1 FROM meta WHERE name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: meta cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoints_replace BEFORE INSERT ON checkpoints WHEN NEW.id <= (SELECT max(id) FROM checkpoints)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: checkpoints cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER prunes_replace BEFORE INSERT ON prunes WHEN NEW.entry <= (SELECT max(entry) FROM prunes)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: prunes cannot be replaced'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER sealings_replace BEFORE INSERT ON sealings WHEN EXISTS (SELECT 1 FROM sealings WHERE entry = NEW.entry AND target = NEW.target)
BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: sealings cannot be replaced'); END;
-- +goose StatementEnd

