// Command upload is a small web service that turns a note into three documents.
// Every request works in a session of its own: the note and all that is made of
// it are gone, and seen to be gone, once the response is with the client.
//
//	POST /process   the note; answers with contents, summary and plan as JSON
//	GET  /healthz
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/session"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "upload:", err)
		os.Exit(1)
	}
}

func serve() error {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	root := flag.String("root", "sessions", "where the sessions lie; tmpfs is best")
	record := flag.String("ledger", "sqlite:epitaph.db", "where the record of disposals is kept")
	sealed := flag.Bool("sealed", false, "encrypt what is written, with keys that are in memory only")
	every := flag.Duration("sweep", time.Minute, "how often to look for what was left behind")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))

	led, err := ledger.Open(ctx, *record, ledger.Config{})
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	defer led.Close()
	store, err := session.Open(ctx, *root, session.Options{Ledger: led, Create: true, Sealed: *sealed})
	if err != nil {
		return err
	}
	defer store.Close()
	sweep(ctx, store, logger) // what a crash left behind
	go func() {
		for range time.Tick(*every) {
			sweep(ctx, store, logger)
		}
	}()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("POST /process", process)
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: store.Middleware(session.Uploads{TTL: 10 * time.Minute, Ended: func(e session.Ended, err error) {
			// Counts and codes only: an id or a name could tell of a person.
			logger.Info("upload_ended", "state", e.State.String(), "reason", string(e.Reason),
				"files_gone", e.Gone, "files_left", e.Left, "files_unknown", e.Unknown, "failed", err != nil)
		}})(mux),
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = srv.Shutdown(last) // lets requests end, and their sessions with them
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func sweep(ctx context.Context, s *session.Store, logger *slog.Logger) {
	w, err := s.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		logger.Error("sweep_failed")
	}
	if len(w.Ended) > 0 || len(w.Leftovers) > 0 {
		logger.Warn("sweep", "sessions", len(w.Ended), "files_gone", w.Gone, "files_left", w.Left, "files_unknown", w.Unknown, "leftovers", len(w.Leftovers))
	}
}
