// Package examples holds those plugins of this folder that edge run -demo loads. README.md lists them all.
//
//	wasm, ok := examples.Module("redact-json")
//
// It runs nothing, and has no sources; guest, beside it, is for the authors of plugins.
package examples

import "embed"

// files are small: the binary carries them.
//
//go:embed stamp-header/stamp-header.wasm redact-json/redact-json.wasm
var files embed.FS

// Module returns the module of an embedded example, as its file has it; ok is false for any other name.
func Module(name string) (module []byte, ok bool) {
	module, err := files.ReadFile(name + "/" + name + ".wasm")
	return module, err == nil
}
