package plugins

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// ABI is the contract between host and guest that a module was built for.
type ABI uint8

// The ABIs, as a module's imports and exports tell.
const (
	Unknown   ABI = iota
	HTTPWasm      // http-wasm.io, handler
	ProxyWasm     // Proxy-Wasm, any version
)

func (a ABI) String() string {
	return [...]string{"unknown", "http-wasm", "proxy-wasm"}[a]
}

// Info is what a module says about itself.
type Info struct {
	ABI     ABI
	Imports []Import
	Exports []Export
	// Start is set when the module has a start function, which runs when an instance is made.
	Start bool
	// Memories and Tables are those the module defines, imported ones not included.
	Memories, Tables []Limits
}

// Import is something a module wants from its host.
type Import struct {
	Module, Name    string
	Kind            api.ExternType
	Params, Results []api.ValueType // of a function
}

// Export is something a module offers to its host.
type Export struct {
	Name            string
	Kind            api.ExternType
	Params, Results []api.ValueType // of a function
}

// Limits is the size of a memory in pages of 64 KiB, or of a table in elements.
type Limits struct {
	Min    uint64
	Max    uint64 // when HasMax
	HasMax bool
	Shared bool // among threads
	Wide   bool // of 64-bit addresses
}

// Export returns the export with that name.
func (in *Info) Export(name string) (Export, bool) {
	i := slices.IndexFunc(in.Exports, func(e Export) bool { return e.Name == name })
	if i < 0 {
		return Export{}, false
	}
	return in.Exports[i], true
}

var (
	magic   = []byte("\x00asm")
	version = []byte{1, 0, 0, 0}
)

// Inspect parses a module without compiling it. The error of something that is no module says what it is instead.
// Function bodies are not looked at: a module that passes may still fail to load.
func Inspect(module []byte) (Info, error) {
	if err := checkHeader(module); err != nil {
		return Info{}, fmt.Errorf("plugins: %w", err)
	}
	p := parser{reader: reader{bytes: module, at: len(magic) + len(version)}}
	if err := p.sections(); err != nil {
		return Info{}, fmt.Errorf("plugins: %w", err)
	}
	in := p.info
	for _, e := range in.Exports {
		if strings.HasPrefix(e.Name, "proxy_abi_version_") {
			in.ABI = ProxyWasm
		}
	}
	if _, ok := in.Export("handle_request"); ok && in.ABI == Unknown {
		in.ABI = HTTPWasm
	}
	return in, nil
}

// checkHeader looks at the first 8 bytes.
func checkHeader(module []byte) error {
	trimmed := bytes.TrimLeft(module, " \t\r\n")
	switch {
	case len(module) == 0:
		return errors.New("the module is empty")
	case bytes.HasPrefix(trimmed, []byte("(module")), bytes.HasPrefix(trimmed, []byte("(component")), bytes.HasPrefix(trimmed, []byte(";;")):
		return errors.New("this is WebAssembly text; assemble it first (wat2wasm)")
	case bytes.HasPrefix(module, []byte{0x1f, 0x8b}):
		return errors.New("this is gzip; unpack it first")
	case bytes.HasPrefix(module, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return errors.New("this is zstd; unpack it first")
	case bytes.HasPrefix(module, []byte("\x7fELF")):
		return errors.New("this is a program for Linux, not WebAssembly; build for wasm32 (GOOS=wasip1 GOARCH=wasm)")
	case bytes.HasPrefix(module, []byte("!<arch>")):
		return errors.New("this is a static library, not WebAssembly; build a module (Go: -buildmode=c-shared, Rust: crate-type cdylib)")
	case len(module) < 4 && bytes.HasPrefix(magic, module):
		return errors.New("the module is truncated")
	case !bytes.HasPrefix(module, magic):
		return errors.New("this is not WebAssembly: it does not begin with \\0asm")
	case len(module) < 8:
		return errors.New("the module is truncated")
	case module[6] == 1: // layer
		return errors.New("this is a component; build a core module instead " +
			"(Rust: target wasm32-wasip1, not wasip2; TinyGo: -target=wasip1; no wasm-tools component new)")
	case !bytes.Equal(module[4:8], version):
		return fmt.Errorf("this is WebAssembly of version %d, want 1", uint32(module[4])|uint32(module[5])<<8)
	}
	return nil
}
