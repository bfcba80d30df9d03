package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// bytesText writes a size as people read it: "1.2 MB". Powers of 1000.
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 999.95 && unit < 4 {
		f /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[unit])
}

// count writes a number with its noun: "1 record", "3,000 records".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + spaced(noun)
	}
	return number(n) + " " + several(noun)
}

// several is the plural of a kind of item: "orphaned recordings".
func several(kind string) string { return spaced(kind) + "s" }

// spaced is a kind of item as people write it.
func spaced(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

// number groups digits by thousands.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// instant writes an instant for people, in UTC.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// days is the number of whole days from one instant to a later one.
func days(from, to time.Time) int64 { return int64(to.Sub(from) / (24 * time.Hour)) }

// reasons writes counts by reason in the order of their codes: "HELD 2, IN_USE 1".
func reasons(m map[connector.Reason]int64) string {
	var parts []string
	for r, n := range m {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%s %s", r, number(n)))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func sum(m map[connector.Reason]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}
