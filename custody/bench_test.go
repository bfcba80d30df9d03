package custody_test

import (
	"fmt"
	"testing"

	"github.com/epitaph/epitaph/custody"
)

// 100,000 operations in one call, each on a file that is there.
func BenchmarkTrack100k(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		const n = 100_000
		ops := make([]custody.Operation, n)
		for i := range ops {
			path := fmt.Sprintf("%s/f%d", w.dir, i)
			w.write(fmt.Sprintf("f%d", i), "x")
			ops[i] = custody.Operation{Action: "work_copy_created", Path: path, Scope: "5", Actor: "jones"}
		}
		b.StartTimer()
		rs, err := w.Track(b.Context(), ops...)
		if err != nil || rs[n-1].ID == "" {
			b.Fatal(err, rs[n-1])
		}
	}
}
