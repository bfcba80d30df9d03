package objects

import (
	"errors"
	"io/fs"
)

// The types of errors. Only the type of an error may be shown to people who
// may not see keys, so that the type says what is wrong.

// DeniedError is a request that the store denies, or that cannot be signed for
// want of credentials. It is [fs.ErrPermission].
type DeniedError struct{ Err error }

// ThrottledError is a store that asks to slow down, however slow we were.
type ThrottledError struct{ Err error }

// NoBucketError is a bucket that is not there, of which nothing can be said.
type NoBucketError struct{ Err error }

// WrongRegionError is a bucket in another region than the one that was asked.
type WrongRegionError struct{ Err error }

// StrangeAnswerError is a success whose body is not the document that was
// asked for: an error in disguise, the page of a proxy, half an answer.
type StrangeAnswerError struct{ Err error }

// Error says what is wrong and wraps the cause; only its type may be shown.
func (e *DeniedError) Error() string { return "denied: " + e.Err.Error() }

// Error says what is wrong and wraps the cause; only its type may be shown.
func (e *ThrottledError) Error() string { return "throttled: " + e.Err.Error() }

// Error says what is wrong and wraps the cause; only its type may be shown.
func (e *NoBucketError) Error() string { return "no such bucket: " + e.Err.Error() }

// Error says what is wrong and wraps the cause; only its type may be shown.
func (e *WrongRegionError) Error() string { return "wrong region: " + e.Err.Error() }

// Error says what is wrong and wraps the cause; only its type may be shown.
func (e *StrangeAnswerError) Error() string { return "strange answer: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *DeniedError) Unwrap() error { return e.Err }

// Unwrap gives the cause.
func (e *ThrottledError) Unwrap() error { return e.Err }

// Unwrap gives the cause.
func (e *NoBucketError) Unwrap() error { return e.Err }

// Unwrap gives the cause.
func (e *WrongRegionError) Unwrap() error { return e.Err }

// Unwrap gives the cause.
func (e *StrangeAnswerError) Unwrap() error { return e.Err }

// Is makes a denial what every package calls one.
func (e *DeniedError) Is(target error) bool { return target == fs.ErrPermission }

// explained gives a failed request the type that says what is wrong.
func explained(err error) error {
	var odd *oddAnswer
	switch k := classify(err); {
	case err == nil:
		return nil
	case k == denied:
		return &DeniedError{err}
	case k == throttle:
		return &ThrottledError{err}
	case noBucket(err):
		return &NoBucketError{err}
	case status(err) == 301, hasCode(err, "PermanentRedirect"), hasCode(err, "AuthorizationHeaderMalformed"),
		hasCode(err, "IllegalLocationConstraintException"):
		return &WrongRegionError{err}
	case errors.As(err, &odd):
		return &StrangeAnswerError{err}
	}
	return err
}
