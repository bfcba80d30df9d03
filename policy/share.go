package policy

import (
	"errors"
	"strconv"
	"strings"
)

// ParseShare reads a share such as 25% or 0.5%, with up to four decimals. It
// must be more than zero and at most 100 %.
func ParseShare(s string) (Share, error) {
	number, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, errors.New("a share has the sign %")
	}
	whole, decimals, point := strings.Cut(strings.TrimRight(number, " "), ".")
	if whole == "" || len(whole) > 3 || len(decimals) > 4 || point && decimals == "" ||
		strings.Trim(whole+decimals, "0123456789") != "" {
		return 0, errors.New("a share is a number with at most four decimals")
	}
	ppm, err := strconv.ParseInt(whole+decimals+strings.Repeat("0", 4-len(decimals)), 10, 64)
	if err != nil || ppm == 0 || ppm > 1_000_000 {
		return 0, errors.New("a share is more than 0% and at most 100%")
	}
	return Share(ppm), nil
}

// String returns the share in percent, as [ParseShare] reads it.
func (s Share) String() string {
	return strconv.FormatFloat(float64(s)/10_000, 'f', -1, 64) + "%"
}
