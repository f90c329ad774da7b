package proxywasm

import (
	"fmt"
	"strings"

	"github.com/edge-proxy/edge/plugins"
)

// version is a version of the ABI.
type version uint8

const (
	v010 version = iota
	v020
	v021
	v02100 // Higress's
)

var versionNames = [...]string{v010: "0.1.0", v020: "0.2.0", v021: "0.2.1", v02100: "0.2.100"}

func (v version) String() string { return versionNames[v] }

const markerPrefix = "proxy_abi_version_"

// versionOf finds the marker among a module's exports. With several of them the newest counts.
func versionOf(in plugins.Info) (version, error) {
	found, best, unknown := false, v010, ""
	for _, e := range in.Exports {
		marker, isMarker := strings.CutPrefix(e.Name, markerPrefix)
		if !isMarker {
			continue
		}
		known := false
		for v, name := range versionNames {
			if strings.ReplaceAll(name, ".", "_") == marker {
				known, found, best = true, true, max(best, version(v))
			}
		}
		if !known {
			unknown = strings.ReplaceAll(marker, "_", ".")
		}
	}
	switch {
	case found:
		return best, nil
	case unknown != "":
		return 0, fmt.Errorf("the module speaks Proxy-Wasm %s; want %s", unknown, strings.Join(versionNames[:], ", "))
	default:
		return 0, fmt.Errorf("the module does not speak Proxy-Wasm: it exports no function %s*; want one of %s",
			markerPrefix, strings.Join(versionNames[:], ", "))
	}
}

// status is what a hostcall answers.
type status uint32

const (
	statusOK            status = 0
	statusNotFound      status = 1
	statusBadArgument   status = 2
	statusInvalidMemory status = 6
	statusEmpty         status = 7
	statusCASMismatch   status = 8
	statusInternal      status = 10
	statusUnimplemented status = 12
)

// The ABI's buffers.
const (
	bufferRequestBody  = 0
	bufferResponseBody = 1
	bufferCallBody     = 4
	bufferVMConfig     = 6
	bufferPluginConfig = 7
	bufferRedisReply   = 9
	buffers            = 10
)

// The ABI's streams.
const (
	streamRequest  = 0
	streamResponse = 1
	streamKinds    = 4
)

// The actions a callback may return. For headers any other number than the first three stops all.
const (
	actionContinue      = 0
	actionStop          = 1 // headers: body callbacks still come. Body: it is held
	actionContinueAndNo = 2 // headers: ContinueAndEndStream
	actionStopNoBuffer  = 3 // body: the guest has taken the bytes
)

// side is a half of an exchange.
type side uint8

const (
	request side = iota
	response
	sides
)

// rootID is the context of the plugin in each instance. Streams get the numbers after it.
const rootID = 1
