package meter

import (
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"
)

// FuzzRewrite: whatever the bytes are, Rewrite returns, and what it returns for a valid module is valid.
func FuzzRewrite(f *testing.F) {
	for _, module := range runaways() {
		f.Add(module)
	}
	// wazero reads these names to the end of the file.
	f.Add(mod(sec(secCustom, sized("name"), "0 000000000000000000000000000000000\x00\x000\x040000")))
	seeds := 0
	corpus(f, func(_ string, module []byte) {
		if len(module) < 1000 && seeds%10 == 0 {
			f.Add(module)
		}
		seeds++
	})
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(allFeatures))
	f.Cleanup(func() { rt.Close(ctx) })
	valid := func(module []byte) error {
		compiled, err := compile(ctx, rt, module)
		if err == nil {
			compiled.Close(ctx)
		}
		return err
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		rewritten, err := rewrite(module, options{refill: 3, room: Room})
		if err != nil {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("an error of another kind: %v", err)
			}
			return // not for wazero either: it may take all memory for it
		}
		if len(rewritten.Module) > 6*len(module)+1<<18 {
			t.Errorf("%d bytes became %d", len(module), len(rewritten.Module))
		}
		if valid(module) != nil {
			return
		}
		if err := valid(rewritten.Module); err != nil {
			t.Errorf("valid before, not after: %v", err)
		}
	})
}
