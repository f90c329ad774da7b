package proxywasm

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when tests leave goroutines of the plugins' or of wazero's behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of such goroutines other than its own, after giving them 2 s to end.
func leaked() string {
	var left []string
	for deadline := time.Now().Add(2 * time.Second); ; runtime.Gosched() {
		left = left[:0]
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if (strings.Contains(stack, "edge/plugins") || strings.Contains(stack, "wazero/")) && !strings.Contains(stack, "proxywasm.leaked") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}
