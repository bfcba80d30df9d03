package files

// WithoutOpenat2 makes c do without openat2, as on a kernel that lacks it.
func WithoutOpenat2(c *Connector) { c.walk = true }
