package policy

import (
	"errors"
	"math/bits"
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

// Exceeded reports whether part is more than the share s of whole. It is exact.
func (s Share) Exceeded(part, whole int64) bool {
	// part/whole > s/1e6, in 128 bits.
	hi1, lo1 := mul(part, 1_000_000)
	hi2, lo2 := mul(whole, int64(s))
	return hi1 > hi2 || hi1 == hi2 && lo1 > lo2
}

func mul(a, b int64) (hi, lo uint64) { return bits.Mul64(uint64(max(a, 0)), uint64(max(b, 0))) }
