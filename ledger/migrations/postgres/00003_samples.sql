-- +goose Up
-- The server samples columns for its planner, and shows the samples in pg_stats:
-- what was sealed off would stay there. None are kept of what can be destroyed; to
-- state the type anew drops those that there are.

ALTER TABLE sealed ALTER COLUMN texts SET STATISTICS 0, ALTER COLUMN texts TYPE BYTEA;
ALTER TABLE lookup ALTER COLUMN filter SET STATISTICS 0, ALTER COLUMN filter TYPE BYTEA;
ALTER TABLE clues ALTER COLUMN key SET STATISTICS 0, ALTER COLUMN key TYPE BIGINT;
