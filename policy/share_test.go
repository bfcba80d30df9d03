package policy_test

import (
	"math"
	"testing"

	"github.com/epitaph/epitaph/policy"
)

func TestShare(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]policy.Share{"25%": 250_000, "0.5%": 5_000, "100%": 1_000_000, "0.0001%": 1, "12.25 %": 122_500, "99.9999%": 999_999} {
		got, err := policy.ParseShare(in)
		if err != nil || got != want {
			t.Errorf("ParseShare(%q) = %d, %v; want %d", in, got, err, want)
		}
		if again, err := policy.ParseShare(got.String()); err != nil || again != got {
			t.Errorf("%v reads back as %v, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "%", "25", "0%", "-1%", "100.0001%", "101%", "1e1%", ".5%", "5.%", "0.00001%", "1000%"} {
		if got, err := policy.ParseShare(in); err == nil {
			t.Errorf("ParseShare(%q) = %v", in, got)
		}
	}
}

func TestShareExceeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share       policy.Share
		part, whole int64
		want        bool
	}{
		{250_000, 25, 100, false}, {250_000, 26, 100, true}, {250_000, 0, 0, false}, {250_000, 1, 0, true}, {1_000_000, 100, 100, false},
		{1, 1, 1_000_000, false}, {1, 2, 1_000_000, true}, {333_333, 1, 3, true}, {333_334, 1, 3, false},
		{500_000, math.MaxInt64, math.MaxInt64, true}, {1_000_000, math.MaxInt64, math.MaxInt64, false},
	} {
		if got := c.share.Exceeded(c.part, c.whole); got != c.want {
			t.Errorf("%v exceeded by %d of %d: %v", c.share, c.part, c.whole, got)
		}
	}
}
