//go:build wasip1

// Aws-sigv4 signs requests with AWS Signature Version 4, for Amazon Bedrock and other APIs of AWS.
package main

import (
	"crypto/sha256"
	"os"
	"time"

	"github.com/edge-proxy/edge/wasm-examples/aws-sigv4/sigv4"
	"github.com/edge-proxy/edge/wasm-examples/guest"
)

// plugin is an instance, which serves one request at a time.
type plugin struct {
	config sigv4.Config
	signer *sigv4.Signer
	piece  [64 << 10]byte
}

func init() {
	c, err := sigv4.ParseConfig(string(guest.Config()))
	if err != nil {
		guest.Logf(guest.Error, "aws-sigv4: configuration: %v", err)
		os.Exit(1) // no instance: nothing goes out unsigned
	}
	guest.Enable(guest.BufferRequest) // the content is read here and still passed on
	p := &plugin{config: c, signer: sigv4.NewSigner(c)}
	guest.HandleRequest(p.handle)
}

func main() {}

// handle signs one request.
func (p *plugin) handle(req guest.Request, _ guest.Response) guest.Verdict {
	h := req.Header()
	r := sigv4.Request{Method: req.Method(), Target: req.URI(), Payload: p.hash(req.Body())}
	for _, name := range h.Names() {
		switch {
		case p.config.Foreign(name):
			h.Remove(name)
		case p.config.Signed(name):
			for _, value := range h.Values(name) {
				r.Fields = append(r.Fields, sigv4.Field{Name: name, Value: value})
			}
		}
	}
	for _, field := range p.signer.Sign(r, time.Now()) {
		h.Set(field.Name, field.Value)
	}
	return guest.Next
}

// hash reads the content piece by piece, so that the plugin's memory need not hold it.
func (p *plugin) hash(content guest.Body) (sum [sha256.Size]byte) {
	h := sha256.New()
	for {
		n, err := content.Read(p.piece[:])
		h.Write(p.piece[:n])
		if err != nil {
			h.Sum(sum[:0])
			return sum
		}
	}
}
