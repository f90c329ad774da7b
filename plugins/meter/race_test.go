//go:build race

package meter

// The race detector sees nothing of native code, and makes wazero's compilers ten times slower: less is run under it.
func init() { raceDetector = true }
