package plugins

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

func TestInspect(t *testing.T) {
	in, err := Inspect(zoo.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Imports) != 4 || len(in.Exports) != len(zoo.funcs)+1 || in.Start || len(in.Memories) != 1 || len(in.Tables) != 0 {
		t.Errorf("got %+v", in)
	}
	if m := in.Memories[0]; m.Min != 2 || m.Max != 64 || !m.HasMax {
		t.Errorf("memory %+v", m)
	}
	im := in.Imports[1]
	if im.Module != "wasi_snapshot_preview1" || im.Name != "poll_oneoff" || im.Kind != api.ExternTypeFunc ||
		signatureText(im.Params, im.Results) != "(i32, i32, i32, i32) -> i32" {
		t.Errorf("import %+v", im)
	}
	if e, ok := in.Export("sleep"); !ok || signatureText(e.Params, e.Results) != "(i64) -> ()" {
		t.Errorf("export %+v", e)
	}
	if _, ok := in.Export("nothing"); ok {
		t.Error("there is an export called nothing")
	}
}

func TestInspectTellsABI(t *testing.T) {
	f := func(want ABI, exports ...string) {
		t.Helper()
		var s source
		for _, name := range exports {
			s.funcs = append(s.funcs, function{name: name, signature: ":"})
		}
		if in, err := Inspect(s.bytes()); err != nil || in.ABI != want {
			t.Errorf("%v: %v, %v; want %v", exports, in.ABI, err, want)
		}
	}
	f(Unknown, "main")
	f(HTTPWasm, "handle_request", "handle_response")
	f(ProxyWasm, "proxy_abi_version_0_2_0")
	f(ProxyWasm, "handle_request", "proxy_abi_version_0_2_100")
}

func TestInspectSaysWhatItIsInstead(t *testing.T) {
	f := func(module, want string) {
		t.Helper()
		if _, err := Inspect([]byte(module)); err == nil || !strings.HasPrefix(err.Error(), "plugins: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q in it", module, err, want)
		}
	}
	f("", "empty")
	f("\x00as", "truncated")
	f("\x00asm\x01\x00", "truncated")
	f("\x00asm\x0d\x00\x01\x00", "component; build a core module")
	f("\x00asm\x02\x00\x00\x00", "version 2")
	f("<html>", "not WebAssembly")
	f(" (module)", "wat2wasm")
	f("\x1f\x8b\x08", "gzip")
	f("\x28\xb5\x2f\xfd", "zstd")
	f("\x7fELF\x02", "for Linux")
	f("!<arch>\n", "cdylib")
	f("\x00asm\x01\x00\x00\x00\x0e\x00", "section 14")
	f("\x00asm\x01\x00\x00\x00\x01\x03\x01\x5f\x00", "garbage collection")
	f("\x00asm\x01\x00\x00\x00\x01\x05\xff\xff\xff\xff\x0f", "truncated")
	f("\x00asm\x01\x00\x00\x00\x01\x02\x00\x00", "1 bytes too many")
	f("\x00asm\x01\x00\x00\x00\x03\x02\x01\x07", "type 7")
	f("\x00asm\x01\x00\x00\x00\x02\x05\x01\x00\x00\x09\x00", "kind 9")
	f("\x00asm\x01\x00\x00\x00\x05\x03\x01\x09\x01", "kind 0x9")
	f("\x00asm\x01\x00\x00\x00\x07\x05\x01\x01f\x00\x03", "function 3")
	f("\x00asm\x01\x00\x00\x00\x01\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "10 bytes")
	f("\x00asm\x01\x00\x00\x00\x01\x06\xff\xff\xff\xff\xff\x0f", "32 bits")
}

// TestInspectImports reads imports of every kind, tables and memories, and types of later versions of WebAssembly as far
// as to tell them.
func TestInspectImports(t *testing.T) {
	entries := vec(
		append(str("env"), 1, 'f', 0, 0),                // function of type 0
		append(str("env"), 1, 't', 1, 0x70, 0, 1),       // table
		append(str("env"), 1, 'm', 2, 1, 1, 2),          // memory
		append(str("env"), 1, 'g', 3, 0x7f, 1),          // global
		append(str("env"), 1, 'x', 4, 0, 0),             // tag
		append(str("env"), 1, 'r', 3, 0x63, 0xf0, 0, 0), // global of a reference to a type
	)
	types := vec(append([]byte{0x60}, append(vec([]byte{0x64, 0x70}), vec([]byte{0x7c})...)...))
	tables := vec([]byte{0x40, 0, 0x70, 0, 3, 0xd0, 0x70, opEnd})
	in, err := Inspect(slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		[]byte{1, byte(len(types))}, types, []byte{2, byte(len(entries))}, entries, []byte{4, byte(len(tables))}, tables))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []byte
	for _, im := range in.Imports {
		kinds = append(kinds, im.Kind)
	}
	if !bytes.Equal(kinds, []byte{0, 1, 2, 3, 4, 3}) || len(in.Tables) != 1 || in.Tables[0].Min != 3 || len(in.Imports[0].Params) != 1 {
		t.Errorf("got %+v", in)
	}
	if in.ABI.String() != "unknown" || HTTPWasm.String() != "http-wasm" || ProxyWasm.String() != "proxy-wasm" {
		t.Errorf("ABI is called %v", in.ABI)
	}
}

// TestInspectTruncated cuts a module everywhere: there is an error, or the cut was between two sections.
func TestInspectTruncated(t *testing.T) {
	module := source{
		imports: zoo.imports, funcs: zoo.funcs, data: zoo.data, table: []int{1, 2}, start: "nop",
		exports: map[string]byte{"table": api.ExternTypeTable},
	}.bytes()
	whole := 0
	for n := range module {
		if _, err := Inspect(module[:n]); err == nil {
			whole++
		}
	}
	if whole != 9 { // the header alone and 8 of 9 sections
		t.Errorf("%d prefixes of a module are modules, want 9", whole)
	}
}

// FuzzInspect wants no panic, and what Inspect reads to be what wazero reads.
func FuzzInspect(f *testing.F) {
	f.Add(zoo.bytes())
	f.Add(source{table: []int{3}, start: "a", funcs: []function{{name: "a", signature: ":"}}}.bytes())
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	host, err := NewHost(HostConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = host.Close() })
	f.Fuzz(func(t *testing.T, module []byte) {
		in, err := Inspect(module)
		if err != nil {
			return
		}
		if bounded := boundTables(module, in, 1000); !bytes.Equal(bounded, module) {
			again, err := Inspect(bounded)
			if err != nil || len(again.Tables) != len(in.Tables) || len(again.Exports) != len(in.Exports) {
				t.Fatalf("with bounded tables: %+v, %v; it was %+v", again, err, in)
			}
		}
		m, err := host.Load(t.Context(), Config{Module: module, MemoryLimit: 1 << 20, Logger: slog.New(slog.DiscardHandler)}, Binding{})
		if err != nil {
			return
		}
		defer m.Close(context.Background())
		exports := m.compiled.ExportedFunctions()
		for _, e := range in.Exports {
			if def := exports[e.Name]; e.Kind == api.ExternTypeFunc && (def == nil ||
				!bytes.Equal(def.ParamTypes(), e.Params) || !bytes.Equal(def.ResultTypes(), e.Results)) {
				t.Errorf("export %+v is %v for wazero", e, def)
			}
		}
	})
}
