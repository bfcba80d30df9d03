-- +goose Up
-- The ledger's tables. What they hold is specified in docs/ledger-format.md.

CREATE TABLE meta (name TEXT PRIMARY KEY, value BYTEA NOT NULL);

-- What was written, for ever: entries, leaves of their batches, tree nodes.
-- A row holds count entries that were written together, the first of which has
-- the number, as a C2SP tlog-tiles entry bundle, and their leaf hashes. No row
-- reaches over a multiple of 256.
CREATE TABLE entries (number BIGINT PRIMARY KEY, count INTEGER NOT NULL, bundle BYTEA NOT NULL, hashes BYTEA NOT NULL, token BYTEA);
CREATE TABLE leaves (number BIGINT PRIMARY KEY, blob BYTEA NOT NULL);
CREATE TABLE nodes (level INTEGER NOT NULL, idx BIGINT NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (level, idx));
CREATE TABLE checkpoints (id BIGINT PRIMARY KEY, size BIGINT NOT NULL, note TEXT NOT NULL);
CREATE INDEX checkpoints_size ON checkpoints (size, id);

-- What can be destroyed, by an entry that says so.
CREATE TABLE sealed (number BIGINT PRIMARY KEY, texts BYTEA NOT NULL);
CREATE TABLE lookup (number BIGINT PRIMARY KEY, filter BYTEA NOT NULL);
CREATE TABLE sealings (entry BIGINT NOT NULL, target BIGINT NOT NULL, slots BYTEA NOT NULL, PRIMARY KEY (entry, target));
CREATE INDEX sealings_target ON sealings (target, entry);
CREATE TABLE prunes (entry BIGINT PRIMARY KEY, minimum BIGINT NOT NULL);

-- Projections: they follow from the entries and can be built again.
CREATE TABLE blocks (block BIGINT PRIMARY KEY, first_at BIGINT NOT NULL, last_at BIGINT NOT NULL);
CREATE TABLE marks (key TEXT COLLATE "C" NOT NULL, block BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (key, block));
CREATE TABLE answers (intent BIGINT NOT NULL, outcome BIGINT NOT NULL, PRIMARY KEY (intent, outcome));
CREATE TABLE open_intents (number BIGINT PRIMARY KEY, items BIGINT NOT NULL);

-- +goose StatementBegin
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is insert-only: % cannot be changed', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION refuse_unless_pruned() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE last BIGINT;
BEGIN
  last := CASE TG_TABLE_NAME
    WHEN 'answers' THEN (to_jsonb(OLD)->>'intent')::bigint
    WHEN 'blocks' THEN ((to_jsonb(OLD)->>'block')::bigint + 1) * 256
    WHEN 'marks' THEN ((to_jsonb(OLD)->>'block')::bigint + 1) * 256
    ELSE (to_jsonb(OLD)->>'number')::bigint END;
  IF last > (SELECT coalesce(max(minimum), 0) FROM prunes) THEN
    RAISE EXCEPTION 'the ledger is insert-only: % can only be pruned', TG_TABLE_NAME;
  END IF;
  RETURN OLD;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION refuse_unless_sealing() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF TG_OP = 'DELETE' AND OLD.number <= (SELECT coalesce(max(minimum), 0) FROM prunes) THEN
    RETURN OLD;
  END IF;
  IF coalesce((SELECT max(entry) FROM sealings WHERE target = OLD.number), 0) <> (SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1)
     OR TG_OP = 'UPDATE' AND NEW.number <> OLD.number THEN
    RAISE EXCEPTION 'the ledger is insert-only: % changes only with the entry that seals it off', TG_TABLE_NAME;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER meta_insert_only BEFORE UPDATE OR DELETE ON meta FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER nodes_insert_only BEFORE UPDATE OR DELETE ON nodes FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER checkpoints_insert_only BEFORE UPDATE OR DELETE ON checkpoints FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER sealings_insert_only BEFORE UPDATE OR DELETE ON sealings FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER prunes_insert_only BEFORE UPDATE OR DELETE ON prunes FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER entries_insert_only BEFORE UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER entries_prune_only BEFORE DELETE ON entries FOR EACH ROW EXECUTE FUNCTION refuse_unless_pruned();
CREATE TRIGGER leaves_insert_only BEFORE UPDATE ON leaves FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER leaves_prune_only BEFORE DELETE ON leaves FOR EACH ROW EXECUTE FUNCTION refuse_unless_pruned();
CREATE TRIGGER answers_insert_only BEFORE UPDATE ON answers FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER answers_prune_only BEFORE DELETE ON answers FOR EACH ROW EXECUTE FUNCTION refuse_unless_pruned();
CREATE TRIGGER blocks_insert_only BEFORE UPDATE ON blocks FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER blocks_prune_only BEFORE DELETE ON blocks FOR EACH ROW EXECUTE FUNCTION refuse_unless_pruned();
CREATE TRIGGER marks_insert_only BEFORE UPDATE ON marks FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER marks_prune_only BEFORE DELETE ON marks FOR EACH ROW EXECUTE FUNCTION refuse_unless_pruned();
CREATE TRIGGER sealed_seal_only BEFORE UPDATE OR DELETE ON sealed FOR EACH ROW EXECUTE FUNCTION refuse_unless_sealing();
CREATE TRIGGER lookup_seal_only BEFORE UPDATE OR DELETE ON lookup FOR EACH ROW EXECUTE FUNCTION refuse_unless_sealing();
CREATE TRIGGER meta_no_truncate BEFORE TRUNCATE ON meta FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER nodes_no_truncate BEFORE TRUNCATE ON nodes FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER checkpoints_no_truncate BEFORE TRUNCATE ON checkpoints FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER sealings_no_truncate BEFORE TRUNCATE ON sealings FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER prunes_no_truncate BEFORE TRUNCATE ON prunes FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER entries_no_truncate BEFORE TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER leaves_no_truncate BEFORE TRUNCATE ON leaves FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER answers_no_truncate BEFORE TRUNCATE ON answers FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER blocks_no_truncate BEFORE TRUNCATE ON blocks FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER marks_no_truncate BEFORE TRUNCATE ON marks FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER sealed_no_truncate BEFORE TRUNCATE ON sealed FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER lookup_no_truncate BEFORE TRUNCATE ON lookup FOR EACH STATEMENT EXECUTE FUNCTION refuse();
