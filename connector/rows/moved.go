package rows

import (
	"errors"
	"io/fs"
	"os"
)

var errMoved = errors.New("another file stands where the database was")

// still reports an error when the path of a SQLite database no longer names the
// file that it named when the connector first looked. SQLite would go on in the
// file that was renamed over, or moved away: what is done there says nothing of the
// database that the application has now. A new connector takes that.
func (c *Connector) still() error {
	if c.file == "" {
		return nil
	}
	now, err := os.Stat(c.file)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err // without the path
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.was == nil {
		c.was = now
	}
	if !os.SameFile(c.was, now) {
		return errMoved
	}
	return nil
}
