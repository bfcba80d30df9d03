package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/epitaph/epitaph/session"
)

// mostNote bounds an upload.
const mostNote = 10 << 20

// process is what a request goes through: save the note, make documents of it,
// send them.
func process(w http.ResponseWriter, r *http.Request) {
	x, ok := session.From(r.Context())
	if !ok {
		http.Error(w, "no session", http.StatusInternalServerError)
		return
	}
	if err := save(x, "note.txt", http.MaxBytesReader(w, r.Body, mostNote)); err != nil {
		http.Error(w, "the note could not be read", http.StatusBadRequest)
		return
	}
	for _, make := range []func(*session.Session) error{contents, summary, plan} {
		if err := make(x); err != nil {
			http.Error(w, "the note could not be processed", http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	for i, name := range []string{"toc", "summary", "plan"} {
		fmt.Fprintf(w, "%c%q:", "{,,"[i], name)
		if err := send(w, x, "out/"+name+".json"); err != nil {
			panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
		}
	}
	fmt.Fprint(w, "}\n")
}

func save(x *session.Session, name string, from io.Reader) error {
	f, err := x.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func send(w io.Writer, x *session.Session, name string) error {
	f, err := x.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func contents(x *session.Session) error {
	var toc []string
	if err := lines(x, func(s string) {
		if strings.HasPrefix(s, "#") {
			toc = append(toc, strings.TrimSpace(strings.TrimLeft(s, "#")))
		}
	}); err != nil {
		return err
	}
	return document(x, "toc", toc)
}

func summary(x *session.Session) error {
	words, n := 0, 0
	if err := lines(x, func(s string) { words, n = words+len(strings.Fields(s)), n+1 }); err != nil {
		return err
	}
	return document(x, "summary", map[string]int{"lines": n, "words": words})
}

func plan(x *session.Session) error {
	steps := []string{}
	if err := lines(x, func(s string) {
		if step, ok := strings.CutPrefix(s, "- "); ok {
			steps = append(steps, step)
		}
	}); err != nil {
		return err
	}
	return document(x, "plan", steps)
}

func lines(x *session.Session, see func(string)) error {
	f, err := x.Open("note.txt")
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, mostNote)
	for in.Scan() {
		see(in.Text())
	}
	return in.Err()
}

func document(x *session.Session, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return save(x, "out/"+name+".json", strings.NewReader(string(text)))
}
