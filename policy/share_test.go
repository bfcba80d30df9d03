package policy_test

import (
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
