package meter

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

const allFeatures = api.CoreFeaturesV2 | experimental.CoreFeaturesThreads | experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling |
	experimental.CoreFeaturesTypedFunctionReferences

// wazeroDir is where the module cache has wazero, and with it the modules of its tests.
func wazeroDir(tb testing.TB) string {
	tb.Helper()
	dir, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(dir))
}

// corpus calls f with each module that wazero keeps for its own tests, most of them of the specification.
func corpus(tb testing.TB, f func(name string, module []byte)) {
	tb.Helper()
	root := wazeroDir(tb)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".wasm" {
			return err
		}
		module, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		f(name, module)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func TestCorpus(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(allFeatures))
	defer rt.Close(ctx)
	var all, valid, refused int
	corpus(t, func(name string, module []byte) {
		all++
		rewritten, rerr := rewrite(module, options{refill: 3, room: Room})
		c, err := compile(ctx, rt, module)
		if err != nil {
			return
		}
		c.Close(ctx)
		valid++
		if errors.Is(rerr, ErrMalformed) {
			t.Errorf("%s: valid, yet %v", name, rerr)
			return
		}
		if rerr != nil {
			refused++
			t.Logf("%s: %v", name, rerr)
			return
		}
		c, err = compile(ctx, rt, rewritten.Module)
		if err != nil {
			t.Errorf("%s: valid before, not after: %v", name, err)
			return
		}
		c.Close(ctx)
	})
	if t.Logf("%d modules, %d valid, %d refused", all, valid, refused); valid < 3000 || refused > 0 {
		t.Error("want 3000 valid ones or more, and none refused")
	}
}
