-- +goose Up
-- Nothing to do: SQLite samples only where somebody runs ANALYZE, and then index
-- keys, of which none are texts that can be destroyed.
SELECT 1;
