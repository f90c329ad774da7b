//go:build gatehammer

package limiter

import (
	"math/rand/v2"
	"runtime"
)

// pause stands between two atomic steps. One time in five it lets others run in between, and now and then for long, so
// that the tests meet the rare orders often. It never sleeps: synctest would take that for the end of a step.
func pause() {
	switch n := rand.IntN(64); {
	case n == 0:
		for range rand.IntN(200) {
			runtime.Gosched()
		}
	case n < 13:
		runtime.Gosched()
	}
}
