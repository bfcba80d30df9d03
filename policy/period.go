package policy

// Period is a calendar span: 36h, 14d, 2w, 6mo, 6y.
type Period struct{ Years, Months, Days, Hours int }
