package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/edge-proxy/edge/proxy"
	examples "github.com/edge-proxy/edge/wasm-examples"
)

const maxSecretBytes = 64 << 10

// readSources reads the files that the flags and the environment name. What it could not read is a fault.
func readSources(f flags, environ []string) (sources, []fault) {
	src := sources{environ: map[string]string{}, secrets: map[string]string{}, flags: f, example: examples.Module}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			src.environ[name] = value
		}
	}
	var faults []fault
	named := origin{rank: fromFlag, name: "-config"}
	path := f.config
	if path == "" {
		named, path = origin{rank: fromVariable, name: configVariable}, src.environ[configVariable]
	}
	if path != "" {
		data, err := readFile(path, maxDocumentBytes)
		if err != nil {
			src.partial = true
			faults = append(faults, fault{from: named, want: "want a readable JSON file: " + documentPath(path) + cause(err)})
		} else {
			src.file = &text{rank: fromFile, name: path, data: data}
		}
	}
	for name, path := range src.environ {
		if path == "" || !secretFile(name) {
			continue
		}
		data, err := readFile(path, maxSecretBytes)
		if err != nil {
			faults = append(faults, fault{from: origin{rank: fromVariable, name: name}, want: "want a readable file: " + shownPath(path) + cause(err)})
			continue
		}
		value, newline := strings.CutSuffix(string(data), "\n")
		if newline {
			value = strings.TrimSuffix(value, "\r")
		}
		src.secrets[name] = value
	}
	return src, sortFaults(faults)
}

// configure reads the sources, loads them and reads the modules that they name: what run, validate, config and a reload
// begin with.
func configure(f flags, environ []string) (document, provenance, []fault) {
	src, unread := readSources(f, environ)
	doc, prov, faults := load(src)
	faults = append(unread, faults...)
	faults = append(faults, readModules(&doc, prov, faults)...)
	return doc, prov, sortFaults(faults)
}

// readFile reads a whole file of at most limit bytes. It may be a pipe.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	tooLarge := fmt.Errorf("larger than %v", proxy.Size(limit))
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > limit {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLarge
	}
	return data, err
}

// documentPath returns the path of a document as a fault shows it, or nothing for what is a document itself.
func documentPath(path string) string {
	if strings.ContainsAny(path, "{\"\n") {
		return ""
	}
	return quoted(path) + ": "
}

// cause returns an error's text without the path or the address in it.
func cause(err error) string {
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Err.Error()
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// shownPath returns a path as a fault shows it, or nothing for what may be a secret in the wrong variable.
func shownPath(path string) string {
	if filepath.IsAbs(path) || strings.HasPrefix(path, ".") {
		return quoted(path) + ": "
	}
	return ""
}
