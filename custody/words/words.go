// Package words holds what can be said of tracked files without looking at one:
// the vocabulary of actions, and the patterns by which one file is expected
// beside another. It does no I/O. The policy reads its words from here, and
// custody acts on them.
package words

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind says what an action does to the file it names. What Epitaph expects of
// the file follows from it.
type Kind uint8

// The kinds of action.
const (
	Created   Kind = iota + 1 // the file came into being
	Copied                    // the file came into being as a copy
	Moved                     // the file came here from elsewhere
	Streamed                  // the file came into being from a stream
	Left                      // the file went elsewhere; here it is no more
	Deleted                   // the file is said to be deleted
	Emptied                   // everything below the directory is said to be deleted
	Sent                      // the file was read by someone outside; it stays
	Started                   // work on the file began
	Completed                 // the work ended well
	Failed                    // the work ended badly, or a deletion did not succeed
	Noted                     // worth a line; nothing follows
)

var kindNames = [...]string{Created: "created", Copied: "copied", Moved: "moved", Streamed: "streamed", Left: "left",
	Deleted: "deleted", Emptied: "emptied", Sent: "sent", Started: "started", Completed: "completed", Failed: "failed", Noted: "noted"}

// String returns the kind as a word.
func (k Kind) String() string {
	if int(k) < len(kindNames) && k > 0 {
		return kindNames[k]
	}
	return "none"
}

// KindNamed returns the kind of that name. It is not ok when there is none.
func KindNamed(name string) (k Kind, ok bool) {
	i := slices.Index(kindNames[:], name)
	return Kind(max(0, i)), i > 0
}

// KindNames returns the name of every kind.
func KindNames() []string { return slices.Clone(kindNames[Created:]) }

// Makes reports a kind after which the file is there.
func (k Kind) Makes() bool { return k == Created || k == Copied || k == Moved || k == Streamed }

// Ends reports a kind after which the file is said not to be there.
func (k Kind) Ends() bool { return k == Deleted || k == Emptied || k == Left }

// Works reports a kind that begins or ends work on the file.
func (k Kind) Works() bool { return k == Started || k == Completed || k == Failed }

// Action is a word of the vocabulary. An attempt, its success and its failure
// are different actions.
type Action struct {
	Name string // letters, digits and underscores, in lower case
	Kind Kind
	// Work names what a Started action begins and a Completed or Failed one ends.
	Work string
	// Temporary files must be cleaned up, also where no due date is given.
	Temporary bool
	// Due is how long after the operation the file must be gone where the
	// operation does not say; 0 for never. It implies Temporary.
	Due time.Duration
}

// builtin are the actions of the PHI tracking system: the 24 that its model
// lists, the 11 that its code writes besides, two without which a deletion that
// failed could not be told from one that succeeded, and three for transfers.
func builtin() []Action {
	var list []Action
	add := func(k Kind, names ...string) {
		for _, n := range names {
			a := Action{Name: n, Kind: k}
			if k.Works() {
				a.Work = n[:strings.LastIndexByte(n, '_')]
			}
			a.Temporary = n == "work_copy_created" || n == "precheck_upload_staged"
			list = append(list, a)
		}
	}
	add(Created, "nas_raw_created", "nas_duckdb_created", "nas_report_created", "precheck_upload_staged")
	add(Copied, "work_copy_created")
	add(Streamed, "file_uploaded_via_stream", "file_uploaded_chunked")
	add(Deleted, "nas_raw_deleted", "nas_duckdb_deleted", "nas_report_deleted", "work_copy_deleted", "file_deleted_via_api")
	add(Emptied, "prefix_deleted_via_api", "scratch_cleanup")
	add(Sent, "file_downloaded_via_stream")
	for _, work := range []string{"conversion", "patient_id_extraction", "stream"} {
		add(Started, work+"_started")
		add(Completed, work+"_completed")
		add(Failed, work+"_failed")
	}
	// Written by the code though its model does not know them.
	add(Created, "nas_processed_created", "submission_file_uploaded", "file_uploaded_async", "attachment_uploaded", "submission_attachment_uploaded")
	add(Deleted, "attachment_deleted", "file_rejected_and_cleaned", "rejected_file_cleanup_completed")
	add(Emptied, "workflow_cleanup_completed")
	add(Moved, "file_moved_to_data")
	add(Left, "file_moved_from_uploads")
	add(Started, "deletion_started")
	add(Failed, "deletion_failed")
	// Between hosts.
	add(Sent, "transfer_sent")
	add(Left, "transfer_moved")
	add(Copied, "transfer_received")
	return list
}

// Vocabulary is a closed set of actions.
type Vocabulary struct {
	byName map[string]Action
	own    map[string]bool // given, not built in
}

// NewVocabulary returns the actions built in, with own ones. An own action of the
// name of one that is built in says when its files must be gone, and nothing
// else: its Kind and Work are zero. Two actions of one name, a malformed name, a
// kind that does not exist, work that is begun but cannot end, and a due date of a
// file that is not made, are errors.
func NewVocabulary(own ...Action) (*Vocabulary, error) {
	v := &Vocabulary{byName: map[string]Action{}, own: map[string]bool{}}
	for _, a := range builtin() {
		v.byName[a.Name] = a
	}
	for _, a := range own {
		if err := v.add(a); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// add takes an own action.
func (v *Vocabulary) add(a Action) error {
	there, taken := v.byName[a.Name]
	amends := taken && !v.own[a.Name] && a.Kind == 0 && a.Work == ""
	if amends {
		a.Kind, a.Work, a.Temporary = there.Kind, there.Work, there.Temporary || a.Temporary
	}
	a.Temporary = a.Temporary || a.Due > 0
	switch {
	case !IsWord(a.Name):
		return fmt.Errorf("action %q: a name has 1 to 64 lower-case letters, digits and underscores", a.Name)
	case taken && !amends:
		return fmt.Errorf("action %s is there already", a.Name)
	case a.Kind.String() == "none":
		return fmt.Errorf("action %s has no kind", a.Name)
	case a.Kind.Works() != (a.Work != ""), a.Kind.Works() && !IsWord(a.Work):
		return fmt.Errorf("action %s: the work that it begins or ends must be named, and only there", a.Name)
	case a.Temporary && !a.Kind.Makes(), a.Due < 0:
		return fmt.Errorf("action %s makes no file that could be due", a.Name)
	}
	v.byName[a.Name], v.own[a.Name] = a, true
	return nil
}

// IsWord reports a text that may name an action, or work.
func IsWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// Names returns every action, sorted.
func (v *Vocabulary) Names() []string { return slices.Sorted(maps.Keys(v.byName)) }

// Find returns the action of that name.
func (v *Vocabulary) Find(name string) (Action, bool) {
	a, ok := v.byName[name]
	return a, ok
}

// Nearest returns the up to three names that are most like name.
func (v *Vocabulary) Nearest(name string) []string {
	if len(name) > 128 {
		name = name[:128]
	}
	type scored struct {
		name string
		d    int
	}
	var all []scored
	for _, n := range v.Names() {
		if d := distance(strings.ToLower(name), n); d <= max(2, len(n)/2) {
			all = append(all, scored{n, d})
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return a.d - b.d })
	var near []string
	for _, s := range all[:min(3, len(all))] {
		near = append(near, s.name)
	}
	return near
}

// distance is that of Levenshtein, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
