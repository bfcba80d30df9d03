-- +goose Up
-- By whom, where and for whom: keyed hashes of what entries say of it, one row
-- for each. Rows of entries that were written with them are marked as clued.

CREATE TABLE clues (key BIGINT NOT NULL, number BIGINT NOT NULL, PRIMARY KEY (key, number));
ALTER TABLE entries ADD COLUMN clued INTEGER;
CREATE INDEX entries_unclued ON entries (number) WHERE clued IS NULL;

CREATE TRIGGER clues_insert_only BEFORE UPDATE ON clues FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER clues_seal_only BEFORE DELETE ON clues FOR EACH ROW EXECUTE FUNCTION refuse_unless_sealing();
CREATE TRIGGER clues_no_truncate BEFORE TRUNCATE ON clues FOR EACH STATEMENT EXECUTE FUNCTION refuse();

-- Whoever may read or append sealed texts may do so with their clues.
-- +goose StatementBegin
DO $$
DECLARE g RECORD;
BEGIN
  FOR g IN SELECT a.grantee, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = 'sealed'::regclass AND a.grantee <> c.relowner AND a.privilege_type IN ('SELECT', 'INSERT')
  LOOP
    EXECUTE format('GRANT %s ON clues TO %s', g.privilege_type, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END);
  END LOOP;
END $$;
-- +goose StatementEnd
