package custody

import "github.com/epitaph/epitaph/custody/words"

// Kind says what an action does to the file it names; see [words.Kind].
type Kind = words.Kind

// The kinds of action; see [words].
const (
	Created   = words.Created
	Copied    = words.Copied
	Moved     = words.Moved
	Streamed  = words.Streamed
	Left      = words.Left
	Deleted   = words.Deleted
	Emptied   = words.Emptied
	Sent      = words.Sent
	Started   = words.Started
	Completed = words.Completed
	Failed    = words.Failed
	Noted     = words.Noted
)

// Action is a word of the vocabulary; see [words.Action].
type Action = words.Action

// Vocabulary is a closed set of actions; see [words.Vocabulary].
type Vocabulary = words.Vocabulary

// NewVocabulary returns the actions built in, with own ones; see
// [words.NewVocabulary].
func NewVocabulary(own ...Action) (*Vocabulary, error) { return words.NewVocabulary(own...) }
