package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	ending    = "aws4_request"
)

// Field is one header line. Name is in lower case.
type Field struct{ Name, Value string }

// Request is what is signed.
type Request struct {
	Method string
	Target string // path and query as on the wire, without the base path

	// Fields are the header lines to sign, host among them, in the order in which they are sent. What the signer adds is
	// not among them.
	Fields []Field

	// Payload is the SHA-256 of the content.
	Payload [sha256.Size]byte
}

// Signer signs with one set of credentials. It is not safe for concurrent use.
type Signer struct {
	config Config
	day    string // that key is for
	key    []byte
}

// NewSigner returns a signer. The configuration is one that ParseConfig has returned.
func NewSigner(c Config) *Signer { return &Signer{config: c} }

// Sign returns the header lines that make r one that was signed at a time. They go in place of any others of their names.
func (s *Signer) Sign(r Request, at time.Time) []Field {
	stamp := at.UTC().Format("20060102T150405Z")
	payload := hex.EncodeToString(r.Payload[:])
	added := []Field{{fieldDate, stamp}, {fieldContent, payload}}
	if s.config.SessionToken != "" {
		added = append(added, Field{fieldToken, s.config.SessionToken})
	}
	r.Target = s.config.BasePath + r.Target
	r.Fields = append(slices.Clip(r.Fields), added...)
	return append(added, Field{"authorization", s.authorization(r, stamp, payload)})
}

// authorization is the value of Authorization for a request of whose fields all are signed.
func (s *Signer) authorization(r Request, stamp, payload string) string {
	c := &s.config
	day := stamp[:len("20060102")]
	scope := day + "/" + c.Region + "/" + c.Service + "/" + ending
	request, names := canonical(r, payload)
	digest := sha256.Sum256(request)
	toSign := algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(digest[:])
	signature := hex.EncodeToString(sum(s.keyOf(day), toSign))
	return algorithm + " Credential=" + c.AccessKeyID + "/" + scope + ", SignedHeaders=" + names + ", Signature=" + signature
}

// keyOf returns the key of a day, which is kept: it changes once in 24 hours.
func (s *Signer) keyOf(day string) []byte {
	if s.day != day {
		key := sum([]byte("AWS4"+s.config.SecretAccessKey), day)
		key = sum(key, s.config.Region)
		key = sum(key, s.config.Service)
		s.day, s.key = day, sum(key, ending)
	}
	return s.key
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
