package session

// HasKey reports whether the process can still open what was sealed.
func (x *Session) HasKey() bool {
	_, err := x.seal.identity()
	return err == nil
}
