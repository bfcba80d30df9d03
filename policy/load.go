package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads the policy file at path. Its variables come from vars (flags before
// environment, see [Lookups]), then from the file .env beside it where there is
// one, then from the defaults in the policy. A file that cannot be read is an
// error that wraps the cause ([fs.ErrNotExist], [fs.ErrPermission]); what is
// wrong in one that can is an [*Errors].
func Load(path string, vars Lookup) (*Policy, error) {
	src, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	dotenv := filepath.Join(filepath.Dir(path), ".env")
	env, err := readBounded(dotenv)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read variables: %w", err)
	}
	file, err := ParseDotenv(dotenv, env)
	if err != nil {
		return nil, err
	}
	return Parse(path, src, Lookups(vars, LookupIn(file)))
}

// readBounded reads a regular file, one byte more than the bound at most.
func readBounded(path string) ([]byte, error) {
	// Looked at before it is opened: opening a FIFO would wait for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Resolve returns a path of the policy (a store's root, the ledger's file) as
// seen from the working directory: relative paths are relative to the policy's
// own folder.
func (p *Policy) Resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(p.Path), path)
}
