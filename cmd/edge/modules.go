package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/edge-proxy/edge/proxy"
)

const maxModuleBytes = 256 << 20

// readModules reads the modules of the plugins, each file once, but for those whose path has one of the known faults.
func readModules(doc *document, prov provenance, known []fault) (faults []fault) {
	type module struct {
		data []byte
		err  error
	}
	modules := map[string]module{}
	for i := range doc.Plugins {
		p := &doc.Plugins[i]
		path := fmt.Sprintf("plugins[%d].path", i)
		from := prov.of(path)
		if p.Path == "" || len(p.Module) > 0 || covered(known, from.written(path)) {
			continue
		}
		file := modulePath(*p, from)
		m, again := modules[file]
		if !again {
			if m.data, m.err = readFile(file, maxModuleBytes); m.err == nil && len(m.data) == 0 {
				m.err = errors.New("the file is empty")
			}
			modules[file] = m
		}
		p.Module = m.data
		if m.err != nil {
			p.Module = nil
			want := "want a readable .wasm file: "
			if from.via == "" {
				want += quotedTo(file, 4*shownBytes) + ": " + cause(m.err)
			} else {
				want += cause(m.err) + " (the value of " + from.via + " is not shown)"
			}
			faults = append(faults, fault{from: from, path: from.written(path), want: want})
		}
	}
	return faults
}

// modulePath returns where a plugin's module is: beside the JSON file that gives the path, unless the path says
// otherwise.
func modulePath(p proxy.Plugin, from origin) string {
	if from.rank == fromFile && from.via == "" && !filepath.IsAbs(p.Path) {
		return filepath.Join(filepath.Dir(from.name), p.Path)
	}
	return filepath.Clean(p.Path)
}
