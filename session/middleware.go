package session

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Uploads says how a [Store.Middleware] treats requests.
type Uploads struct {
	// TTL is the longest that a session of a request may live; 0: one hour.
	TTL time.Duration
	// When says which requests get a session; nil: POST, PUT and PATCH.
	When func(*http.Request) bool
	// Ended is told what became of each session. nil: nobody is.
	Ended func(Ended, error)
	// Failed answers a request for which no session could be made; nil: status
	// 503, without a reason.
	Failed func(http.ResponseWriter, *http.Request, error)
}

type key struct{}

// From returns the session of a request, given its context, and whether it has
// one.
func From(ctx context.Context) (*Session, bool) {
	x, ok := ctx.Value(key{}).(*Session)
	return x, ok
}

// Middleware gives each upload a session of its own, which the handler finds
// with [From]. Requests never share one, so nothing of one person can be read
// for another.
//
// The session is disposed of when the handler has returned and the response has
// been flushed to the connection, or when the handler panics: a handler may
// serve files out of the session. Put nothing between the server and this that
// holds responses back. A handler that takes the connection over (hijacks it) has
// the session until it returns. The client sees the end of a response without
// Content-Length only after the disposal.
//
// A server that is shut down with http.Server.Shutdown waits for disposals; one
// that dies leaves sessions to the next sweep.
func (s *Store) Middleware(u Uploads) func(http.Handler) http.Handler {
	if u.TTL <= 0 {
		u.TTL = time.Hour
	}
	if u.When == nil {
		u.When = func(r *http.Request) bool {
			return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
		}
	}
	if u.Failed == nil {
		u.Failed = func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "no place for the upload", http.StatusServiceUnavailable)
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !u.When(r) {
				next.ServeHTTP(w, r)
				return
			}
			x, err := s.New(r.Context(), u.TTL)
			if err != nil {
				u.Failed(w, r, err)
				return
			}
			defer func() { // whatever panics before
				e, err := x.Close()
				if u.Ended != nil {
					u.Ended(e, err)
				}
			}()
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, x)))
			// Errors mean that nobody reads any more. A connection that was taken over is
			// not ours to flush, and the server's own writer panics at it.
			if _, err := w.Write(nil); !errors.Is(err, http.ErrHijacked) {
				_ = http.NewResponseController(w).Flush()
			}
		})
	}
}
