package reflector_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// deletion is the body of an S3 DeleteObjects request.
type deletion struct {
	Objects []target `xml:"Object"`
}

type target struct {
	Key       string
	VersionId string `xml:",omitempty"`
}

type deletionAnswer struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Deleted []target
	Error   []refused
}

type refused struct {
	target
	Code, Message string
}

// deny makes the S3 server refuse the deletion of these keys, and do every
// other one as it is asked, as a bucket policy does.
func (b *bed) deny(keys ...string) {
	b.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.Method == http.MethodDelete && slices.Contains(keys, key):
			answer(w, http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
			return true
		case r.Method != http.MethodPost || !r.URL.Query().Has("delete"):
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			b.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var ask deletion
		if err := xml.Unmarshal(body, &ask); err != nil {
			b.Error(err)
		}
		if !slices.ContainsFunc(ask.Objects, func(t target) bool { return slices.Contains(keys, t.Key) }) {
			return false
		}
		var say deletionAnswer
		for _, t := range ask.Objects {
			if slices.Contains(keys, t.Key) {
				say.Error = append(say.Error, refused{t, "AccessDenied", "no"})
				continue
			}
			in := &s3.DeleteObjectInput{Bucket: &bucket, Key: &t.Key}
			if t.VersionId != "" {
				in.VersionId = &t.VersionId
			}
			if _, err := b.media.Client().DeleteObject(r.Context(), in); err != nil {
				b.Error(err)
			}
			say.Deleted = append(say.Deleted, t)
		}
		text, err := xml.Marshal(say)
		if err != nil {
			b.Error(err)
		}
		answer(w, http.StatusOK, string(text))
		return true
	})
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header+body)
}

// events are the log's lines of that name.
func (b *bed) events(log, name string) (found []map[string]any) {
	b.Helper()
	for line := range strings.Lines(log) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // remarks for people share stderr with the log
		}
		if e["event"] == name {
			found = append(found, e)
		}
	}
	return found
}

// killAfterDeletes runs a purge and kills it, as a power cut does, when that
// many objects have been deleted.
func (b *bed) killAfterDeletes(n int, args ...string) {
	b.Helper()
	cmd := b.command(b.Context(), append([]string{"purge", "--yes"}, args...)...)
	started := make(chan struct{}) // the program may ask before we know its process
	b.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !r.URL.Query().Has("delete") {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return true // the connection died with the program
		}
		var ask deletion
		if err := xml.Unmarshal(body, &ask); err != nil {
			b.Error(err)
		}
		bucket, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		b.killing.Lock()
		defer b.killing.Unlock()
		for _, t := range ask.Objects {
			if n == 0 {
				<-started
				_ = cmd.Process.Kill()
				return true
			}
			n--
			// Not the request's context: what the server was told it does.
			if _, err := b.media.Client().DeleteObject(b.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &t.Key}); err != nil {
				b.Error(err)
			}
		}
		var say deletionAnswer
		say.Deleted = ask.Objects
		text, err := xml.Marshal(say)
		if err != nil {
			b.Error(err)
		}
		answer(w, http.StatusOK, string(text))
		return true
	})
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	close(started)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		b.Fatalf("the program ended by itself: %v", err)
	}
	b.spoil.Store(nil)
}
